"""The clock that all processes on a database share: a server's own; on SQLite, whose processes are of one machine, that of the machine."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.connection import Dialect, Executor

__all__ = ["shared_now", "shared_time"]


async def shared_now(connection: AsyncConnection) -> datetime:
    """The time by that clock, in UTC: not that of the transaction's beginning, which may have waited for a lock since.

    What one process writes by it may be compared with what another reads from it, however far apart their own clocks are.
    """
    if connection.dialect.name != Dialect.POSTGRESQL:
        return datetime.now(UTC)
    found: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return found.astimezone(UTC)


def shared_time(executor: Executor) -> datetime:
    """The same, for work in a thread.

    Raises:
        StorageError: the database doesn't tell.
    """
    if executor.dialect is not Dialect.POSTGRESQL:
        return datetime.now(UTC)
    found: datetime = executor.execute("SELECT clock_timestamp()").fetchone()[0]
    return found.astimezone(UTC)
