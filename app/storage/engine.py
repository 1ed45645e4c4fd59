"""The database engine and its two kinds of transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["open_engine", "prepare", "reading", "writing"]

BUSY_TIMEOUT_MS = 5_000
SWITCH_POLL_MS = 10
PRIMARY_CODE = 0xFF


def open_engine(url: str) -> AsyncEngine:
    """Make the engine for a database address; nothing is opened until its first use.

    SQLite runs in WAL mode with `synchronous=FULL`, so that a commit that returned survives a loss of power.
    """
    # No statement's parameters in errors: they could hold what must not be written down.
    engine = create_async_engine(url, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _on_connect)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine, "handle_error", _on_error)
    return engine


def prepare(connection: DBAPIConnection | sqlite3.Connection) -> None:
    """Have a connection to SQLite keep this module's promises."""
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: DBAPICursor | sqlite3.Cursor) -> None:
    """Switch the database to WAL, which it then stays in.

    Of two that switch a new database at once SQLite tells one that it is busy, without waiting: to wait could deadlock.
    """
    for _ in range(BUSY_TIMEOUT_MS // SWITCH_POLL_MS):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(SWITCH_POLL_MS / 1_000)
        else:
            return
    message = "database is locked"
    raise sqlite3.OperationalError(message)


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that only reads, on one snapshot."""
    async with engine.connect() as connection, connection.begin():
        yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes: committed on the way out, rolled back on an exception.

    It takes SQLite's write lock at its start (waiting up to 5 s), so that what it read still holds when it writes.
    """
    async with engine.connect() as connection:
        await connection.execution_options(gateway_writes=True)
        async with connection.begin():
            yield connection


def _on_connect(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    prepare(connection)


def _on_error(context: ExceptionContext) -> None:
    """Open connections anew after one that could only read: it was opened while the file was read-only, and stays so for ever."""
    code = getattr(context.original_exception, "sqlite_errorcode", sqlite3.SQLITE_OK)
    if code & PRIMARY_CODE == sqlite3.SQLITE_READONLY:
        context.is_disconnect = True


def _begin(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("gateway_writes") else "BEGIN")
