"""The stream on a real database, real pipes and files: every record once, in order, and nothing ever waits for a collector."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Name, Signer, append, streamed
from app.audit.batch import Batch
from app.audit.bookmark import FileBookmark, bookmark_for
from app.audit.outlets import FileOutlet, outlet_of
from app.audit.stream import Stream
from app.errors import StartRefused
from app.storage import ALONE, DatabaseThread, writing
from tests.records import administrative
from tests.rig import until
from tests.storage.database import ON_SQLITE, Hand, by_hand

SIGNER = Signer(bytes(range(32)))


async def change(engine: AsyncEngine, *subjects: str) -> None:
    """Records of another process: a command's."""
    async with writing(engine) as connection:
        await append(connection, [administrative(Name.TOKEN_ADDED, "test", subject) for subject in subjects], SIGNER)


def stored(engine: AsyncEngine) -> list[bytes]:
    """Every record's body, by number."""
    with by_hand(engine) as hand:
        return [body for (body,) in hand.execute("SELECT CAST(body AS BLOB) FROM audit_records ORDER BY number")]


def lines(path: Path) -> list[bytes]:
    """A file's lines that are whole; none where it isn't there."""
    return (path.read_bytes() if path.exists() else b"").split(b"\n")[:-1]


def subjects(found: list[bytes]) -> list[str]:
    """What the lines tell of, in few words."""
    return [one.get("subject") or one.get("name") or "left out" for one in map(json.loads, found)]


async def streams(path: Path, count: int) -> list[bytes]:
    """The file's lines, once there are so many."""

    async def there() -> bool:
        return len(lines(path)) >= count

    await until(there)
    return lines(path)


def place(engine: AsyncEngine, folder: Path, number: int) -> None:
    """Make the stream's bookmark, and leave it at a number."""
    with closing(bookmark_for(engine, folder, "stream")) as bookmark:
        bookmark.place(number)


async def test_every_line_is_a_stored_body(engine: AsyncEngine, tmp_path: Path) -> None:
    """What this process and what another one wrote comes once, byte for byte, in the order of the numbers."""
    path, thread = tmp_path / "audit.jsonl", DatabaseThread(engine)
    async with streamed(f"file:{path}", engine, tmp_path, ALONE) as listeners:
        ledger = Ledger(thread, SIGNER, listeners)
        for number in range(5):
            await ledger.append([administrative(Name.TOKEN_TESTED, "test", f"own-{number}-{one}") for one in range(100)])
            await change(engine, f"änderung-{number}")
        await ledger.aclose()
    await thread.aclose()

    assert len(lines(path)) == 507
    assert lines(path) == stored(engine)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_other_processes_records_come_by_themselves(engine: AsyncEngine, tmp_path: Path) -> None:
    """A command's change is streamed while nothing happens in this process."""
    path = tmp_path / "audit.jsonl"
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "by-a-command")
        found = await streams(path, 2)

    assert subjects(found) == ["chain:opened", "by-a-command"]


async def test_it_begins_with_what_is_new_and_goes_on_where_it_ended(engine: AsyncEngine, tmp_path: Path) -> None:
    """What was there when the stream was first turned on isn't written; what came while no server ran is, once."""
    path = tmp_path / "audit.jsonl"
    await change(engine, "before")
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "during")
    await change(engine, "between")
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "after")

    assert subjects(lines(path)) == ["during", "between", "after"]


async def test_an_older_database_is_noticed(engine: AsyncEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bookmark beyond the last record is of another database: that is logged, and the stream goes on with what is new."""
    path = tmp_path / "audit.jsonl"
    await asyncio.to_thread(place, engine, tmp_path, 9_000)
    await change(engine, "before")
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "after")

    assert subjects(lines(path)) == ["after"]
    assert "is beyond the database" in capsys.readouterr().out


@ON_SQLITE  # the other keeps it in a column of numbers
@pytest.mark.parametrize("left", [b"", bytes(21), b"what is this?\n"], ids=["nothing", "zeros", "a text"])
async def test_a_damaged_bookmark_leaves_nothing_out(
    engine: AsyncEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str], left: bytes
) -> None:
    """Where it isn't known how far the stream came, all that it may tell comes again, and the log says why."""
    path = tmp_path / "audit.jsonl"
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "before")
    (tmp_path / "stream.position").write_bytes(left)
    await change(engine, "between")
    path.unlink()
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "after")
    said = capsys.readouterr().out

    assert lines(path) == stored(engine)
    assert said.count("a bookmark holds no number") == 1
    assert "an older copy" not in said
    assert int((tmp_path / "stream.position").read_bytes()) == len(stored(engine))


@ON_SQLITE  # as above
async def test_a_damaged_bookmark_leaves_a_gap_that_is_said(engine: AsyncEngine, tmp_path: Path) -> None:
    """One that is more behind than a stream may be is told what is left out, though nobody knows how far it had come."""
    path = tmp_path / "audit.jsonl"
    await change(engine, *map(str, range(9)))
    (tmp_path / "stream.position").touch()
    stream = Stream(FileOutlet(path), engine, bookmark_for(engine, tmp_path, "stream"), ALONE, most_behind=4)
    await asyncio.to_thread(stream.start)
    await stream.aclose()

    assert json.loads(lines(path)[0])["left_out"] == {"first": 1, "last": 8, "count": 8}
    assert lines(path)[1:] == stored(engine)[8:]


async def test_none_makes_nothing(engine: AsyncEngine, tmp_path: Path) -> None:
    """Without a target there is no file, no thread and no listener."""
    before = os.listdir(tmp_path)  # noqa: PTH208 - the database alone
    async with streamed("none", engine, tmp_path, ALONE) as listeners:
        found = os.listdir(tmp_path)  # noqa: PTH208 - as above

    assert (listeners, found) == ((), before)


async def test_a_file_that_was_moved_away_is_opened_anew(engine: AsyncEngine, tmp_path: Path) -> None:
    """As logrotate does it: what was written stays in the old file, the new one goes on with the next record, and nothing is missing."""
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        await change(engine, "one")
        await streams(path, 2)
        path.rename(old)
        await change(engine, "two")
        await streams(path, 1)

    assert subjects(lines(old)) == ["chain:opened", "one"]
    assert subjects(lines(path)) == ["two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_folder_that_is_away_for_a_while(engine: AsyncEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can't be written is logged once, tried again, and written when it can be."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "audit.jsonl"
    said = ""

    async def says(text: str) -> None:
        async def there() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return text in said

        await until(there)

    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        folder.rename(tmp_path / "away")
        await change(engine, "meanwhile")
        await says("can't be written")
        folder.mkdir()
        await says("is written again")

    assert subjects(lines(path)) == ["chain:opened", "meanwhile"]
    assert said.count("can't be written") == 1


@dataclass
class Pipe:
    """A pipe that holds one page; its reader reads when told to."""

    reading: int = field(init=False)
    writing: int = field(init=False)
    got: bytes = b""

    def __post_init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK)

    def freshen(self) -> bool:
        """It stays where it is."""
        return False

    def send(self, text: memoryview) -> int:
        """Take what there is room for."""
        if not select.select([], [self.writing], [], 0.05)[1]:
            raise TimeoutError
        return os.write(self.writing, text[: select.PIPE_BUF])

    def close(self) -> None:
        """End it for the reader."""
        os.close(self.writing)

    def read(self) -> list[bytes]:
        """Everything until now, in lines that are whole."""
        while select.select([self.reading], [], [], 0)[0] and (text := os.read(self.reading, 65_536)):
            self.got += text
        return self.got.split(b"\n")[:-1]


async def test_a_collector_far_behind_is_told_what_was_left_out(
    engine: AsyncEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that doesn't read for long gets one line that says which numbers are left out, then the newest, and no line in pieces."""
    pipe = Pipe()
    stream = Stream(pipe, engine, bookmark_for(engine, tmp_path, "stream"), ALONE, most_behind=400)
    await asyncio.to_thread(stream.start)
    await change(engine, *(f"{number:04}-{'x' * 400}" for number in range(3_000)))

    async def blocked() -> bool:
        return stream.failures > 0

    await until(blocked)

    async def told() -> bool:
        return len(pipe.read()) > 0 and json.loads(pipe.read()[-1]).get("number") == 3_001

    await until(told)
    await stream.aclose()
    found: list[dict[str, Any]] = [json.loads(line) for line in pipe.read()]
    os.close(pipe.reading)

    gaps = [one["left_out"] for one in found if "left_out" in one]
    assert gaps == [{"first": gaps[0]["first"], "last": 2_801, "count": 2_802 - gaps[0]["first"]}]
    assert [one["number"] for one in found if "number" in one] == [*range(1, gaps[0]["first"]), *range(2_802, 3_002)]
    assert stream.left_out == gaps[0]["count"]
    assert "are left out" in capsys.readouterr().out


async def test_removed_records_are_told(engine: AsyncEngine, tmp_path: Path) -> None:
    """Records that were removed before they were written leave a line in their place."""
    path = tmp_path / "audit.jsonl"
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        pass
    await change(engine, *map(str, range(9)))
    connection = Hand(engine)
    connection.execute("DELETE FROM audit_records WHERE number BETWEEN 3 AND 8")
    connection.close()
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        pass

    assert subjects(lines(path)) == ["chain:opened", "0", "left out", "7", "8"]
    assert json.loads(lines(path)[2])["left_out"] == {"first": 3, "last": 8, "count": 6}


async def test_closing_waits_for_nobody_forever(engine: AsyncEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a collector that never reads the stream ends all the same, says so, and the next process goes on after the last whole line."""
    pipe = Pipe()
    stream = Stream(pipe, engine, bookmark_for(engine, tmp_path, "stream"), ALONE)
    await asyncio.to_thread(stream.start)
    await change(engine, *("x" * 400 for _ in range(1_000)))
    await stream.aclose()
    told = capsys.readouterr().out
    got = pipe.read()
    os.close(pipe.reading)
    path = tmp_path / "audit.jsonl"
    async with streamed(f"file:{path}", engine, tmp_path, ALONE):
        pass

    assert "the rest follows at the next start" in told
    assert got + lines(path) == stored(engine)


async def test_a_locked_database_holds_nothing_back_for_good(engine: AsyncEngine, tmp_path: Path) -> None:
    """While the table can't be read the stream tries again, and then writes everything."""
    path = tmp_path / "audit.jsonl"
    stream = Stream(FileOutlet(path), engine, bookmark_for(engine, tmp_path, "stream"), ALONE)
    await asyncio.to_thread(stream.start)
    await change(engine, "one")
    aside = Hand(engine)
    aside.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")

    async def failed() -> bool:
        return stream.failures > 0

    await until(failed)
    aside.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")
    aside.close()
    await streams(path, 2)
    await stream.aclose()

    assert lines(path) == stored(engine)


def test_a_line_that_was_cut_off_is_ended(tmp_path: Path) -> None:
    """What a killed process left in the middle of a line doesn't spoil the next one."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"at":"2026')
    outlet = FileOutlet(path)
    outlet.send(memoryview(b"{}\n"))
    outlet.close()

    assert lines(path) == [b'{"at":"2026', b"{}"]


@pytest.mark.parametrize("name", ["missing/audit.jsonl", ".", "fifo", "device"])
def test_a_target_that_cant_be_written_stops_the_start(tmp_path: Path, name: str) -> None:
    """A folder that isn't there, and what isn't a regular file, are refused in one line that names the variable."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/full")

    with pytest.raises(StartRefused, match=r"GATEWAY_AUDIT_STREAM: file:.* can't be written: .+") as refused:
        outlet_of(f"file:{tmp_path / name}")

    assert "\n" not in str(refused.value)


def test_a_bookmark_that_cant_be_kept_stops_the_start(tmp_path: Path) -> None:
    """Without it a restart would repeat or lose lines."""
    (tmp_path / "stream.position").mkdir()

    with pytest.raises(StartRefused, match=r"GATEWAY_STATE_DIR: .*stream.position can't be used: Is a directory"):
        resume(tmp_path)


def test_a_new_bookmark_is_whole_or_not_there(tmp_path: Path) -> None:
    """Where there is no room for it the start is refused in one line, and once there is room the stream begins with what is new."""
    with no_room(), pytest.raises(StartRefused, match=r"GATEWAY_STATE_DIR: .*stream.position can't be used: File too large"):
        resume(tmp_path)
    left = list(tmp_path.iterdir())

    assert left == []
    assert resume(tmp_path) == 7
    assert (tmp_path / "stream.position").read_bytes() == b"00000000000000000007\n"
    assert stat.S_IMODE((tmp_path / "stream.position").stat().st_mode) == 0o600


def test_a_damaged_bookmark_that_cant_be_mended_stops_the_start(tmp_path: Path) -> None:
    """On a full disk it is said in one line, and nothing is taken for kept."""
    (tmp_path / "stream.position").touch()

    with no_room(), pytest.raises(StartRefused, match="GATEWAY_STATE_DIR"):
        resume(tmp_path)

    assert resume(tmp_path) == 0


def resume(folder: Path) -> int:
    """Where the stream goes on, after seven records."""
    bookmark = FileBookmark(folder / "stream.position")
    try:
        bookmark.place(7)
        return bookmark.resume(bookmark.kept(), 7, first=7, oldest=0)
    finally:
        bookmark.close()


@contextmanager
def no_room() -> Iterator[None]:
    """No file can grow, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_batch_knows_what_is_whole() -> None:
    """Sent piece by piece, only whole lines count; a line that goes elsewhere begins anew."""
    batch = Batch([(7, b"seven\n"), (9, b"nine\n")])
    seen = [batch.done]
    batch.advance(5)
    seen.append(batch.done)
    batch.advance(3)
    seen.append(batch.done)
    batch.rewind()
    rest = bytes(batch.rest)
    batch.advance(5)
    seen.append(batch.done)

    assert seen == [None, None, 7, 9]
    assert rest == b"nine\n"
    assert not batch.rest
