"""The appender, on a real file: all or nothing, in order, durable, and well again after a failure."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Appender, reading

UNENCODABLE = "\ud800"


@pytest_asyncio.fixture
async def appender(engine: AsyncEngine) -> AsyncIterator[Appender]:
    """An appender to the migrated database."""
    made = Appender(engine)
    yield made
    await made.aclose()


def body(number: int) -> str:
    """A record's body, to tell from others."""
    return f'{{"id":"{number}"}}'


async def bodies(engine: AsyncEngine) -> list[str]:
    """What is there, oldest first."""
    async with reading(engine) as connection:
        return list((await connection.exec_driver_sql("SELECT body FROM audit_records ORDER BY number")).scalars())


async def test_a_group_is_there_in_its_order(engine: AsyncEngine, appender: Appender) -> None:
    """A thousand rows, the most that the writer gives, are one commit and keep their order."""
    group = [body(number) for number in range(1_000)]
    await appender.append(group)

    assert await bodies(engine) == group


async def test_a_group_stands_or_falls_together(engine: AsyncEngine, appender: Appender) -> None:
    """A row that the table refuses takes the whole group with it, and the next group is taken again."""
    await appender.append([body(1)])
    with pytest.raises(SQLAlchemyError):
        await appender.append([body(2), body(1)])
    await appender.append([body(3)])

    assert await bodies(engine) == [body(1), body(3)]


async def test_a_probe_leaves_nothing(engine: AsyncEngine, appender: Appender, tmp_path: Path) -> None:
    """It fails where an append would, and what it tried is gone."""
    await appender.probe()
    aside = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    aside.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
    with pytest.raises(SQLAlchemyError):
        await appender.probe()
    aside.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")
    aside.close()
    await appender.probe()

    assert await bodies(engine) == []


async def test_a_defect_is_raised_and_does_not_end_the_thread(engine: AsyncEngine, appender: Appender) -> None:
    """What can't be encoded reaches the one who gave it; the next group is taken."""
    with pytest.raises(UnicodeEncodeError):
        await appender.append([UNENCODABLE])
    await appender.append([body(1)])

    assert await bodies(engine) == [body(1)]


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2)])
async def test_its_connection_is_durable(appender: Appender, pragma: str, value: str | int) -> None:
    """The audit's own connection has WAL and `synchronous=FULL` (2), as all others."""
    found = []
    await appender._order(lambda: found.append(appender._connect().execute(f"PRAGMA {pragma}").fetchone()[0]))

    assert found == [value]
