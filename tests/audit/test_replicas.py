"""What one of several replicas does with the record of all, on a real PostgreSQL: the stream, and anchoring."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Name, Signer, anchored, append, streamed
from app.audit.bookmark import StoredBookmark
from app.errors import StartRefused
from app.storage import Lead, leading, reading, writing
from app.storage.migrate import upgrade
from app.storage.tables import audit_checkpoints, audit_records
from tests.cli.processes import REPOSITORY, environment
from tests.leads import Appointed
from tests.records import administrative
from tests.rig import until
from tests.servers.postgres import Postgres
from tests.storage.database import by_hand, opened

SIGNER = Signer(bytes(range(32)))
ONE_BATCH = 200


@pytest_asyncio.fixture
async def address(postgres_server: Postgres) -> str:
    """A new database with the newest schema."""
    address = postgres_server.new_database()
    async with opened(address) as engine:
        await upgrade(engine)
    return address


@asynccontextmanager
async def replica(address: str) -> AsyncIterator[tuple[AsyncEngine, Lead]]:
    """What a replica has of its own."""
    async with opened(address) as engine, leading(engine) as lead:
        yield engine, lead


@contextmanager
def process(address: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that streams to a file; killed at the end, if it still runs."""
    command = [sys.executable, "-m", "tests.audit.replica", address, f"file:{path}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment(), **pipes) as running:  # type: ignore[call-overload]
        assert running.stdout.readline()
        try:
            yield running
        finally:
            running.kill()


async def change(engine: AsyncEngine, count: int = 1) -> None:
    """So many changes, each with a checkpoint."""
    for number in range(count):
        async with writing(engine) as connection:
            await append(connection, [administrative(Name.TOKEN_ADDED, "test", str(number))], SIGNER)


async def numbers(engine: AsyncEngine) -> list[int]:
    """Those of all records."""
    async with reading(engine) as connection:
        return list((await connection.execute(select(audit_records.c.number).order_by(audit_records.c.number))).scalars())


def written(*paths: Path) -> list[int]:
    """The numbers of the records in these files, in their whole lines."""
    lines = [line for path in paths if path.exists() for line in path.read_bytes().split(b"\n")[:-1]]
    return [json.loads(line)["number"] for line in lines if line.endswith(b"}")]


async def test_each_line_comes_once_in_all(address: str, tmp_path: Path) -> None:
    """Two replicas stream, each to its own file; every record is in one of them, once."""
    one, other = tmp_path / "one", tmp_path / "other"
    async with replica(address) as (engine, lead), replica(address) as (second, follower):
        async with streamed(f"file:{one}", engine, tmp_path, lead), streamed(f"file:{other}", second, tmp_path, follower):
            await change(engine, 3)
            await change(second, 3)

            async def there() -> bool:
                return len(written(one, other)) >= len(await numbers(engine))

            await until(there)
        found = await numbers(engine)

    assert written(one) == found
    assert written(other) == []
    assert not (tmp_path / "stream.position").exists()


async def test_the_next_goes_on_where_the_leader_stopped(address: str, tmp_path: Path) -> None:
    """A leader that ends in order has passed on what there was; the other goes on with the next, and no line comes twice."""
    one, other = tmp_path / "one", tmp_path / "other"
    async with AsyncExitStack() as first, opened(address) as writer:
        engine, lead = await first.enter_async_context(replica(address))
        await first.enter_async_context(streamed(f"file:{one}", engine, tmp_path, lead))
        async with replica(address) as (second, follower), streamed(f"file:{other}", second, tmp_path, follower):
            await change(writer, 3)
            await first.aclose()
            await change(writer, 3)

            async def there() -> bool:
                return written(other)[-1:] == (await numbers(writer))[-1:]

            await until(there)
        found = await numbers(writer)

    assert written(one, other) == found
    assert written(one) != []


async def test_a_killed_leaders_lines_follow(address: str, tmp_path: Path) -> None:
    """After `kill -9` of the process that streams another goes on: no record is missing, and a batch at most comes twice."""
    one, other = tmp_path / "one", tmp_path / "other"
    async with opened(address) as engine:
        with process(address, one) as leader, process(address, other):
            await change(engine, 20)

            async def begun() -> bool:
                return len(written(one)) > 0

            await until(begun)
            leader.kill()
            await change(engine, 20)

            async def there() -> bool:
                return written(other)[-1:] == (await numbers(engine))[-1:]

            await until(there)
        found = await numbers(engine)

    assert sorted(set(written(one, other))) == found
    assert len(written(one, other)) - len(found) <= ONE_BATCH
    assert written(other) == found[-len(written(other)) :]


async def test_who_leads_again_goes_on_where_others_stopped(address: str, tmp_path: Path) -> None:
    """One that led, then didn't, and leads again doesn't repeat what another passed on meanwhile."""
    one, other, lead, follower = tmp_path / "one", tmp_path / "other", Appointed(), Appointed()
    async with opened(address) as engine:
        async with streamed(f"file:{one}", engine, tmp_path, lead), streamed(f"file:{other}", engine, tmp_path, follower):
            for leader, path in ((lead, one), (follower, other), (lead, one)):
                await change(engine, 2)
                leader.appoint()

                async def there(path: Path = path) -> bool:
                    return written(path)[-1:] == (await numbers(engine))[-1:]

                await until(there)
                leader.dismiss()
        found = await numbers(engine)

    assert sorted(written(one, other)) == found
    assert written(other) == found[3:5]


async def test_what_is_written_while_nobody_leads_follows(address: str, tmp_path: Path) -> None:
    """The stream begins with what is new when its first process starts, not when one leads."""
    path, lead = tmp_path / "lines", Appointed()
    async with opened(address) as engine:
        await change(engine)
        before = await numbers(engine)
        async with streamed(f"file:{path}", engine, tmp_path, lead):
            await change(engine, 2)
            lead.appoint()
        found = await numbers(engine)

    assert written(path) == found[len(before) :]


async def test_what_comes_while_one_takes_up_sets_nothing_back(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A leader that was still passing on what is newer than what the next one saw first isn't taken for a restored older copy."""
    kept, marks = StoredBookmark.kept, list[str]()
    async with opened(address) as engine:
        await change(engine)
        before, lead = len(await numbers(engine)), Appointed()

        def meanwhile(self: StoredBookmark) -> int | None:
            with by_hand(engine) as hand:
                hand.execute("UPDATE bookmarks SET number = ? WHERE name = ?", (before + 1, self._name))
            asyncio.run_coroutine_threadsafe(change(engine), loop).result()
            marks.append(self._name)
            return kept(self)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(StoredBookmark, "kept", meanwhile)
        async with streamed(f"file:{tmp_path / 'lines'}", engine, tmp_path, lead):
            lead.appoint()

            async def taken_up() -> bool:
                return bool(marks)

            await until(taken_up)
        async with anchored(["/bin/true"], engine, tmp_path, lead):
            pass

    assert marks == ["stream", "anchors"]
    assert "a bookmark is beyond the database" not in capsys.readouterr().out


async def test_each_checkpoint_is_handed_over_once(address: str, tmp_path: Path) -> None:
    """By the leader, and then by the next one, which goes on behind it."""
    path = tmp_path / "anchors"
    command = ["/bin/sh", "-c", 'cat >> "$0"', str(path)]
    async with AsyncExitStack() as first, opened(address) as writer:
        engine, lead = await first.enter_async_context(replica(address))
        await first.enter_async_context(anchored(command, engine, tmp_path, lead))
        async with replica(address) as (second, follower), anchored(command, second, tmp_path, follower):
            await change(writer, 3)
            await first.aclose()
            await change(writer, 2)

            async def there() -> bool:
                return path.read_bytes().count(b"\n") >= 5

            await until(there)
        async with reading(writer) as connection:
            stored = list((await connection.execute(select(audit_checkpoints.c.body).order_by(audit_checkpoints.c.number))).scalars())

    assert [json.loads(line)["body"] for line in path.read_text(encoding="utf-8").splitlines()] == stored


async def test_a_bookmark_never_goes_back(address: str) -> None:
    """What a process that led before passed on late doesn't have others' come again."""
    async with opened(address) as engine:
        one, other = StoredBookmark(engine, "stream"), StoredBookmark(engine, "stream")

        def moved() -> list[int]:
            one.place(3)
            other.place(5)
            found = [one.resume(one.kept(), 9, first=9, oldest=0)]
            other.move(8)
            one.move(4)
            found += [
                other.resume(other.kept(), 9, first=9, oldest=0),
                other.resume(other.kept(), 7, first=7, oldest=0),
                one.resume(one.kept(), 9, first=9, oldest=0),
            ]
            one.close()
            other.close()
            return found

        assert await asyncio.to_thread(moved) == [3, 8, 7, 7]


async def test_a_bookmark_that_cant_be_kept_stops_the_start(address: str) -> None:
    """Without its table a restart would repeat or lose lines."""
    async with opened(address) as engine:
        async with writing(engine) as connection:
            await connection.exec_driver_sql("DROP TABLE bookmarks")
        with pytest.raises(StartRefused, match="GATEWAY_DATABASE_URL: the table bookmarks can't be written"):
            await asyncio.to_thread(StoredBookmark(engine, "stream").place, 1)
