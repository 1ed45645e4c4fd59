"""The engine and its two kinds of transaction, on real files."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import current_revision, open_engine, reading, touch_revision, writing
from app.storage.embedded import prepare
from app.storage.tables import grants, revision
from tests.servers.postgres import Postgres

from .database import ON_SQLITE, opened


@ON_SQLITE
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5_000)],
)
async def test_every_connection_is_durable(engine: AsyncEngine, pragma: str, value: str | int) -> None:
    """Every connection has WAL, `synchronous=FULL` (2), foreign keys and patience with locks, not only the first."""
    async with engine.connect() as first, engine.connect() as second:
        found = [(await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() for connection in (first, second)]

    assert found == [value, value]


def test_several_that_open_a_new_database_at_once_all_can(tmp_path: Path) -> None:
    """None is told that the database is locked, though only one of them switches it to WAL."""

    def open_and_write(path: Path, together: Barrier) -> str:
        connection = sqlite3.connect(path, isolation_level=None)
        together.wait()
        prepare(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER)")
        mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.close()
        return mode

    with ThreadPoolExecutor(4) as pool:
        for round_ in range(50):
            together, path = Barrier(4), tmp_path / f"{round_}.db"
            modes = [opening.result() for opening in [pool.submit(open_and_write, path, together) for _ in range(4)]]

            assert modes == ["wal"] * 4


async def test_what_was_written_is_there_after_reopening(database: str, engine: AsyncEngine) -> None:
    """A transaction that ended well is committed: another engine on the same database reads it."""
    async with writing(engine) as connection:
        await touch_revision(connection)
        written = await current_revision(connection)

    async with opened(database) as again, reading(again) as connection:
        found = await current_revision(connection)

    assert found == written


async def test_an_exception_undoes_what_was_written(engine: AsyncEngine) -> None:
    """A transaction that ends with an exception leaves nothing behind."""
    async with reading(engine) as connection:
        before = await current_revision(connection)

    async def fail() -> None:
        async with writing(engine) as connection:
            await touch_revision(connection)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    async with reading(engine) as connection:
        assert await current_revision(connection) == before


async def test_a_reader_sees_one_snapshot(engine: AsyncEngine) -> None:
    """What is committed while a reading transaction runs isn't seen in it."""
    async with reading(engine) as connection:
        before = await current_revision(connection)
        async with writing(engine) as other:
            await touch_revision(other)
        during = await current_revision(connection)
    async with reading(engine) as connection:
        after = await current_revision(connection)

    assert (before, during, after) == (before, before, before + 1)


async def test_writers_wait_for_each_other(engine: AsyncEngine) -> None:
    """A writing transaction holds the write lock from its start, so that no change made after its reads gets lost."""

    async def add_one() -> None:
        async with writing(engine) as connection:
            number = (await connection.execute(select(revision.c.number))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(update(revision).values(number=number + 1))

    async with reading(engine) as connection:
        before = await current_revision(connection)
    await asyncio.gather(*(add_one() for _ in range(10)))

    async with reading(engine) as connection:
        assert await current_revision(connection) == before + 10


async def test_foreign_keys_hold(engine: AsyncEngine) -> None:
    """A row can't name another that isn't there."""
    with pytest.raises(IntegrityError):
        async with writing(engine) as connection:
            await connection.execute(grants.insert().values(caller_id="nobody", token_id="nothing"))


async def test_the_revision_grows_with_every_change(engine: AsyncEngine) -> None:
    """Each touch gives a higher number, and a read gives the number as it is."""
    seen = []
    for _ in range(3):
        async with writing(engine) as connection:
            await touch_revision(connection)
        async with reading(engine) as connection:
            seen.append(await current_revision(connection))

    assert seen == [seen[0], seen[0] + 1, seen[0] + 2]


@ON_SQLITE
async def test_a_connection_that_can_only_read_is_not_kept(engine: AsyncEngine) -> None:
    """One that was opened while the file was read-only fails at its next write; those after it write again, without a restart."""
    async with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            await connection.exec_driver_sql("PRAGMA query_only=ON")

    async def change() -> None:
        async with writing(engine) as connection:
            await touch_revision(connection)

    with pytest.raises(OperationalError, match="readonly"):
        await change()
    await asyncio.gather(change(), change())

    async with reading(engine) as connection:
        assert await current_revision(connection) == 3


async def test_a_connection_is_not_waited_for_for_long(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all that there may be to a server are taken, who wants one more is refused after a moment, as if the server didn't answer."""
    monkeypatch.setattr("app.storage.engine.FREE_SECONDS", 0.05, raising=False)
    engine = open_engine(postgres_server.new_database())
    async with AsyncExitStack() as taken:
        for _ in range(15):
            await taken.enter_async_context(engine.connect())
        with pytest.raises(OperationalError, match="limit of size 5 overflow 10 reached"):
            async with asyncio.timeout(10), reading(engine):
                pass
    await engine.dispose()
