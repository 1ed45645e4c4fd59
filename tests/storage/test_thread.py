"""The database's own thread, on a real file: one piece of work after the other, durable, and well again after a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Connection, DatabaseThread, current_revision, reading

from .database import ON_SQLITE

NEXT = "UPDATE revision SET number = number + 1"


@pytest_asyncio.fixture
async def thread(engine: AsyncEngine) -> AsyncIterator[DatabaseThread]:
    """A thread on the migrated database."""
    made = DatabaseThread(engine)
    yield made
    await made.aclose()


async def revision(engine: AsyncEngine) -> int:
    """What another connection sees."""
    async with reading(engine) as connection:
        return await current_revision(connection)


async def test_a_statement_is_its_own_transaction(engine: AsyncEngine, thread: DatabaseThread) -> None:
    """When the work returns, another connection sees what it did."""
    await thread.run(lambda connection: connection.execute(NEXT))

    assert await revision(engine) == 2


async def test_work_gives_its_result(thread: DatabaseThread) -> None:
    """As it is, in the order in which it was asked for."""
    query = "SELECT number FROM revision"

    assert await thread.run(lambda connection: connection.execute(query).fetchone()) == (1,)


async def test_what_a_failure_left_open_is_rolled_back(engine: AsyncEngine, thread: DatabaseThread) -> None:
    """The database's refusal reaches the one who asked, nothing of the work is left, and the next is done."""

    def half(connection: Connection) -> None:
        connection.begin_writing()
        connection.execute(NEXT)
        connection.execute("INSERT INTO missing VALUES (1)")

    with pytest.raises(SQLAlchemyError, match="missing"):
        await thread.run(half)
    await thread.run(lambda connection: connection.execute(NEXT))

    assert await revision(engine) == 2


async def test_a_defect_is_raised_and_does_not_end_the_thread(engine: AsyncEngine, thread: DatabaseThread) -> None:
    """It reaches the one who asked; the next work is done."""
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda _: 1 // 0)
    await thread.run(lambda connection: connection.execute(NEXT))

    assert await revision(engine) == 2


@ON_SQLITE
@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2)])
async def test_its_connection_is_durable(thread: DatabaseThread, pragma: str, value: str | int) -> None:
    """The record's own connection has WAL and `synchronous=FULL` (2), as all others."""
    assert await thread.run(lambda connection: connection.execute(f"PRAGMA {pragma}").fetchone()) == (value,)


@ON_SQLITE
async def test_the_last_to_close_leaves_no_log(engine: AsyncEngine, tmp_path: Path) -> None:
    """When `aclose` returns the connection is closed: SQLite has put its log into the file."""
    thread = DatabaseThread(engine)
    await thread.run(lambda connection: connection.execute(NEXT))
    await engine.dispose()
    await thread.aclose()

    assert not (tmp_path / "gateway.db-wal").exists()
