"""What docs/replicas.md says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.dispatch.shared import clock, link, turns
from app.dispatch.shared.link import SCRIPTS, script_source
from tests.dispatch.shared.contact import linked, terms
from tests.servers.valkey import Valkey

PAGE = (Path(__file__).parents[3] / "docs" / "replicas.md").read_text(encoding="utf-8")
SENTENCES = " ".join(PAGE.split())


def test_each_key_and_script_is_named() -> None:
    """And none besides."""
    cells = re.findall(r"^\| (`[^|]*`) \|", PAGE, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]

    assert sorted(named) == sorted((*turns.KEYS, *SCRIPTS))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GRACE", 50_000, "waits 50 ms for it (150 ms at most, for three)"),
        ("STALE", 1_000_000, "not at all for a replica that wasn't heard for a second"),
        ("DEAD", 5_000_000, "its places fall out 5 s after it was last heard"),
        ("LIFETIME_OF_PLACES", 6_000, "6 s, if no other asks for the token"),
        ("LONGEST_VALID", 500_000, "nothing is sent for one second, `G` and 500 ms"),
        ("LIFETIME", 86_400_000, "keys of lanes that nobody uses fall out after a day"),
    ],
)
def test_the_scripts_times_are_those_of_the_page(name: str, value: int, said: str) -> None:
    """In microseconds there, but for keys' lifetimes, in milliseconds."""
    [names, values] = re.findall(rf"^local ([A-Z_, ]*\b{name}\b[A-Z_, ]*) = ([\d, ]+)", script_source("claim"), re.MULTILINE)[0]
    constants = dict(zip(names.split(", "), map(int, values.split(", ")), strict=True))

    assert constants[name] == value
    assert said in SENTENCES


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        (turns.USABLE_SECONDS, 0.1, "A turn may be used for 100 ms, and twice the time that Valkey's last answer took"),
        (turns.MOST_USABLE_SECONDS, 0.5, "500 ms at most, by the replica's own monotonic clock"),
        (turns.MOST_LEAD, 0.2, "turns are asked for earlier, by 200 ms at most"),
        (clock.STEP_SECONDS, 0.1, "Valkey's clock jumps by more than 100 ms"),
        (link.SILENT_BEATS * link.BEAT_SECONDS, 2.0, "After 2 s what waits gets `503 pacing-unavailable`"),
        (turns.BEAT_SECONDS, 2.0, "closes it for all, within 2 s"),
    ],
)
def test_the_replicas_times_are_those_of_the_page(value: float, expected: float, said: str) -> None:
    """In seconds."""
    assert value == expected
    assert said in SENTENCES


async def test_the_user_needs_no_more_than_the_pages_commands(server: Valkey) -> None:
    """Every script runs with them, whatever it is told, in another database than the first too."""
    [line] = re.findall(r"^ +ACL SETUSER (.*)$", PAGE, re.MULTILINE)
    server.ask("ACL", "SETUSER", "page", "reset", *line.split()[1:])
    report = {"id": "1", "ended": True, "back": False, "answered": 0, "trip": 1_000, "peer": "peer"}
    wants = [{"flow": f"interactive:{name}", "count": 2, "weight": 1} for name in "ab"]
    asked = {"id": "1", "renew": "1", "released": 0, "pause": 0, "flying": ["1"]}
    async with linked(f"valkey://page:password@127.0.0.1:{server.port}/1") as watched:
        await watched.until(lambda link: link.connected)
        keys = [f"flxpoint-gateway:{{page}}:{name}" for name in turns.KEYS]
        for script in SCRIPTS:
            for more in ({"wants": wants}, {"wants": wants[:1], "reports": [report], "verdicts": [{"number": 1, "operation": "o"}]}, {}):
                assert await watched.link.run(script, keys, terms(replica=watched.replica, **asked, **more))
