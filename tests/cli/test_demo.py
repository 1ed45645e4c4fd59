"""`demo`: everything at once, with nothing to set up."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests import loopback

from .processes import environment, run, started, until

ANYTHING_SECRET = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])")


def test_the_demo_shows_what_it_promises_and_ends(tmp_path: Path) -> None:
    """`demo --once` ends with status 0, every call as expected, with its record, and with no token's value or key on the screen."""
    ran = run("demo", "--once", variables=environment(STATE_DIR=tmp_path / "state", PORT="x") | {"TMPDIR": str(tmp_path)})

    assert (ran.returncode, ran.stderr) == (0, "")
    calls, _, records = ran.stdout.partition("What is on record:")
    assert len(re.findall(r"^ok ", calls, re.MULTILINE)) == 12
    assert "EXPECTED" not in calls
    assert all(name in records for name in ("call:intent", "send:intent", "send:outcome", "call:outcome", "call:refused"))
    assert not ANYTHING_SECRET.search(ran.stdout)
    assert "fgk_" not in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """Without `--once` the demo prints a `curl` to paste, which works, serves until a signal, and leaves nothing behind."""
    state = tmp_path / "temporary"
    state.mkdir()
    with started("demo", variables=environment() | {"TMPDIR": str(state)}, folder=tmp_path / "demo") as demo:
        until(lambda: "The API, to read and to try: " in demo.out)
        (line,) = (line for line in demo.out.splitlines() if line.strip().startswith("curl "))
        words = shlex.split(line)
        name, _, value = words[words.index("-H") + 1].partition(": ")
        answer = loopback.request(words[words.index("-X") + 1], words[-1], headers={name: value}, timeout=30)
        status = demo.stop()

    assert (answer.status_code, answer.json()) == (200, [1005, 1006])
    assert status == 0
    assert demo.err == ""
    assert list(state.iterdir()) == []
