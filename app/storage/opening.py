"""What the house's SQL is executed by, chosen by the engine's database: connections of a thread's own, or a transaction of SQLAlchemy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.connection import Connection, Dialect, Executor, Rows
from app.storage.embedded import open_embedded, open_embedded_reading
from app.storage.locks import RECORD
from app.storage.postgresql import PostgresConnection, in_postgresql

__all__ = ["insert_or_skip", "lock_record", "open_connection", "open_reading_connection", "within"]


def open_connection(engine: AsyncEngine) -> Connection:
    """A connection of one's own to the engine's database.

    Raises:
        StorageError
    """
    if engine.dialect.name == Dialect.POSTGRESQL:
        return PostgresConnection(engine.url)
    return open_embedded(engine.url.database or "")


def open_reading_connection(engine: AsyncEngine, is_vain: Callable[[], bool]) -> Connection:
    """The same, and it can't write.

    Args:
        engine: the database.
        is_vain: where it says so, what is under way is broken off.

    Raises:
        StorageError
    """
    if engine.dialect.name == Dialect.POSTGRESQL:
        return PostgresConnection(engine.url, read_only=True, is_vain=is_vain)
    return open_embedded_reading(engine.url.database or "", is_vain)


def within(connection: SyncConnection) -> Executor:
    """What executes the house's SQL in a transaction of SQLAlchemy's, and raises its errors."""
    return _Within(connection)


def lock_record(executor: Executor) -> None:
    """Have a transaction that `writing` began write the record too; on SQLite it has the lock for that already."""
    if executor.dialect is Dialect.POSTGRESQL:
        executor.execute(f"SELECT pg_advisory_xact_lock({RECORD})")


async def insert_or_skip(connection: AsyncConnection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, if what must be unique isn't there yet."""
    insert = postgresql.insert if connection.dialect.name == Dialect.POSTGRESQL else sqlite.insert
    await connection.execute(insert(table).values(values).on_conflict_do_nothing())


class _Within:
    def __init__(self, connection: SyncConnection) -> None:
        self._connection = connection
        self.dialect = Dialect(connection.dialect.name)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Execute one statement in the transaction."""
        spoken = in_postgresql(sql) if self.dialect is Dialect.POSTGRESQL else sql
        found = self._connection.exec_driver_sql(spoken, tuple(parameters))
        rows = [tuple(row) for row in found.fetchall()] if found.returns_rows else []
        return Rows(rows, found.rowcount)
