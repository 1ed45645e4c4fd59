"""Checkpoints handed to a program: real programs, which keep them, fail, hang or aren't there."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Name, Signer, Trusted, anchored, append
from app.audit.anchoring import Anchoring
from app.audit.anchors import anchor_line
from app.audit.bookmark import FileBookmark
from app.audit.chain import Head
from app.audit.program import ProgramFailed, _feed, _started, run_program
from app.audit.records import Record
from app.storage import ALONE, DatabaseThread, writing
from tests.records import administrative
from tests.rig import until
from tests.storage.database import by_hand

SIGNER = Signer(bytes(range(32)))


def record(subject: str) -> Record:
    """A record to tell from others."""
    return administrative(Name.TOKEN_ADDED, "test", subject)


async def change(engine: AsyncEngine, count: int = 1) -> None:
    """So many changes by another process, each with a checkpoint."""
    for number in range(count):
        async with writing(engine) as connection:
            await append(connection, [record(str(number))], SIGNER)


def keeping(path: Path) -> list[str]:
    """A program that appends what it gets to a file."""
    return ["/bin/sh", "-c", 'cat >> "$0"', str(path)]


def kept(path: Path) -> list[dict[str, str]]:
    """What the program has kept, line by line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def places(path: Path) -> list[tuple[str, int]]:
    """Which checkpoints the program has kept; each must be what the key signed."""
    found = []
    for line in kept(path):
        members: dict[str, Any] = Trusted(SIGNER.public).check(line["body"].encode(), base64.b64decode(line["signature"]))
        found.append((str(members["chain"]), int(members["seq"])))
    return found


def stored(engine: AsyncEngine) -> list[str]:
    """The bodies of every checkpoint, in the order in which they were made."""
    with by_hand(engine) as hand:
        return [body for (body,) in hand.execute("SELECT body FROM audit_checkpoints ORDER BY number")]


async def handed(path: Path, count: int) -> None:
    """Wait until the program has kept so many."""

    async def there() -> bool:
        return len(kept(path)) >= count

    await until(there)


class Said:
    """What was logged so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        """All of it."""
        self._text += self._capsys.readouterr().out
        return self._text

    async def hears(self, words: str) -> None:
        """Wait until the log holds these words."""

        async def there() -> bool:
            return words in self.text

        await until(there)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The log."""
    return Said(capsys)


async def test_each_checkpoint_is_handed_over_the_last_one_too(engine: AsyncEngine, tmp_path: Path) -> None:
    """Those of this process and those of others come once each, in the order in which they were made, until the very end."""
    path, thread = tmp_path / "anchors", DatabaseThread(engine)
    async with anchored(keeping(path), engine, tmp_path, ALONE) as listeners:
        ledger = Ledger(thread, SIGNER, listeners)
        await ledger.append([record(str(number)) for number in range(1_500)])
        await change(engine)
        await ledger.append([record("last")])
        await ledger.aclose()
    await thread.aclose()

    assert places(path) == [(ledger.chain, 1_000), ("administration", 2), (ledger.chain, 1_502)]
    assert [line["body"] for line in kept(path)] == stored(engine)


async def test_other_processes_checkpoints_come_by_themselves(engine: AsyncEngine, tmp_path: Path) -> None:
    """A command's change is anchored while nothing happens in this process."""
    path = tmp_path / "anchors"
    async with anchored(keeping(path), engine, tmp_path, ALONE):
        await change(engine)
        await handed(path, 1)

    assert places(path) == [("administration", 2)]


async def test_it_goes_on_where_it_ended(engine: AsyncEngine, tmp_path: Path) -> None:
    """The first time the newest that are there are handed over; after a restart those that were made while no server ran."""
    path = tmp_path / "anchors"
    await change(engine)
    async with anchored(keeping(path), engine, tmp_path, ALONE):
        pass
    await change(engine, 2)
    async with anchored(keeping(path), engine, tmp_path, ALONE):
        pass

    assert places(path) == [("administration", 2), ("administration", 3), ("administration", 4)]


async def test_a_program_that_fails_is_logged_and_tried_again(engine: AsyncEngine, tmp_path: Path, said: Said) -> None:
    """Its status and the beginning of what it said stand in the log; with the next checkpoint it gets those that it refused."""
    path, there = tmp_path / "anchors", tmp_path / "there"
    script = '[ -e "$1" ] || { printf "no %05000d" 7 >&2; exit 3; }; cat >> "$0"'
    async with anchored(["/bin/sh", "-c", script, str(path), str(there)], engine, tmp_path, ALONE):
        await change(engine)
        await said.hears("it ended with status 3")
        there.touch()
        await change(engine)
        await handed(path, 2)

    assert places(path) == [("administration", 2), ("administration", 3)]
    assert "no 0000" in said.text
    assert "0" * 2_001 not in said.text


async def test_a_program_that_isnt_there_is_logged(engine: AsyncEngine, tmp_path: Path, said: Said) -> None:
    """The gateway goes on, and what waits is handed over by a later process."""
    path = tmp_path / "anchors"
    async with anchored([str(tmp_path / "missing"), "--now"], engine, tmp_path, ALONE):
        await change(engine)
        await said.hears("No such file or directory")
    async with anchored(keeping(path), engine, tmp_path, ALONE):
        pass

    assert places(path) == [("administration", 2)]


async def test_only_the_newest_wait(engine: AsyncEngine, tmp_path: Path, said: Said) -> None:
    """Of many that couldn't be handed over the newest 100 are, and the log says which were not."""
    path = tmp_path / "anchors"
    async with anchored(["/bin/false"], engine, tmp_path, ALONE):
        await change(engine, 103)
    async with anchored(keeping(path), engine, tmp_path, ALONE):
        await handed(path, 100)

    assert places(path) == [("administration", seq) for seq in range(5, 105)]
    assert "older checkpoints were not handed" in said.text


def runs(pid: int) -> bool:
    """Whether a process is there and isn't dead already."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_program_that_hangs_is_killed_with_what_it_started(engine: AsyncEngine, tmp_path: Path, said: Said) -> None:
    """After its time it is ended, and its children with it; that is logged with what it had said."""
    pids = tmp_path / "pids"
    script = 'trap "" TERM; echo stuck >&2; sleep 600 & echo $$ $! > "$0"; wait'
    bookmark = FileBookmark(tmp_path / "anchors.position")
    anchoring = Anchoring(["/bin/sh", "-c", script, str(pids)], engine, bookmark, ALONE, limit=0.5)
    async with anchoring.kept():
        await change(engine)
        await said.hears("was killed")
        first = [int(pid) for pid in pids.read_text(encoding="ascii").split()]

        async def gone() -> bool:
            return not any(map(runs, first))

        await until(gone)
    bookmark.close()

    assert len(first) == 2
    assert "stuck" in said.text


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_in_another_session_holds_nothing_up(tmp_path: Path, loop: str) -> None:
    """What the program started elsewhere lives on with its standard error, of which nobody hears any more: the run ends all the same."""
    script = 'setsid sh -c \'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 600\' "$0"'
    path = tmp_path / "pid"
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run_program(["/bin/true"], b"", within=30))
        before = open_files()
        with pytest.raises(ProgramFailed, match="was killed"):
            runner.run(asyncio.wait_for(run_program(["/bin/sh", "-c", script + " & wait", str(path)], b"", within=1), 60))
        pid = int(path.read_text(encoding="ascii"))
        lived = runs(pid)
        os.kill(pid, signal.SIGKILL)

        assert lived
        assert open_files() == before


@pytest.mark.parametrize("loop", LOOPS)
def test_a_program_that_has_ended_need_not_have_read(loop: str) -> None:
    """Its input is closed by then: it isn't written to, and that is no failure."""

    async def feed_the_dead() -> None:
        transport, process = await _started(["/bin/true"])
        await process.wait()
        assert process.stdin
        async with asyncio.timeout(10):
            while not process.stdin.is_closing():
                await asyncio.sleep(0)
        await _feed(process.stdin, b"{}\n")
        transport.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(feed_the_dead())


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_program_that_floods_is_listened_to_in_part(said: Said) -> None:
    """What it says beyond the first 2,000 bytes takes no memory, and doesn't stop it."""
    script = "import sys; sys.stderr.write('x' * 5_000_000); sys.exit(1)"

    with pytest.raises(ProgramFailed) as failed:
        await run_program([sys.executable, "-c", script], b"{}\n", within=30)

    assert failed.value.said == "x" * 2_000
    assert said.text == ""


async def test_a_program_need_not_read() -> None:
    """One that ends well without having read its input has done what it should."""
    await run_program(["/bin/true"], b"x" * 1_000_000, within=30)


async def test_a_program_gets_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the master keys nor any other variable reaches it but those that say where it runs."""
    monkeypatch.setenv("GATEWAY_MASTER_KEYS", "k1:a-secret-that-is-no-key")
    monkeypatch.setenv("DATABASE_PASSWORD", "another-secret")
    monkeypatch.setenv("TZ", "UTC")
    path = tmp_path / "environment"
    await run_program(["/bin/sh", "-c", 'env > "$0"', str(path)], b"", within=30)
    names = {line.partition("=")[0] for line in path.read_text(encoding="utf-8").splitlines()}

    assert {"PATH", "TZ"} <= names
    assert names <= {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"} | {"PWD", "OLDPWD", "SHLVL", "_"}


async def test_none_makes_nothing(engine: AsyncEngine, tmp_path: Path) -> None:
    """Without a command there is no listener and no file."""
    async with anchored([], engine, tmp_path, ALONE) as listeners:
        found = os.listdir(tmp_path)  # noqa: PTH208 - a look at a folder

    assert listeners == ()
    assert "anchors.position" not in found


async def test_closing_waits_for_nobody_forever(engine: AsyncEngine, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that hangs at the end is ended with the gateway, and the log says that the last checkpoints follow later."""
    monkeypatch.setattr("app.audit.anchoring.CLOSE_SECONDS", 0.3)
    async with anchored(["/bin/sleep", "600"], engine, tmp_path, ALONE):
        await change(engine)

    assert "they follow at the next start" in said.text


def test_a_line_holds_the_checkpoint() -> None:
    """The body stands in it as it was signed, the signature in base64."""
    seal = SIGNER.checkpoint(Head("a-chain", 7), 3)
    line = anchor_line(seal)

    assert json.loads(line) == {"body": seal.body, "signature": base64.b64encode(seal.signature).decode()}
    assert "\n" not in line
