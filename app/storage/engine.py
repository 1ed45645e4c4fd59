"""The database engine and its two kinds of transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.storage.connection import Dialect
from app.storage.embedded import prepare
from app.storage.locks import STATE
from app.storage.postgresql import connect

__all__ = ["open_engine", "patient", "reading", "writing"]

READS: dict[str, dict[str, Any]] = {Dialect.POSTGRESQL: {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}}

PRIMARY_CODE = 0xFF
FREE_SECONDS = 2.0
"""How long a transaction waits for a connection that is free, where there may be no more to a server."""


def open_engine(url: str) -> AsyncEngine:
    """Make the engine for a database address; nothing is opened until its first use.

    A commit that returned survives a loss of power: SQLite runs in WAL mode with `synchronous=FULL`, PostgreSQL with
    `synchronous_commit=on`.
    """
    # No statement's parameters in errors: they could hold what must not be written down.
    if make_url(url).get_backend_name() == Dialect.POSTGRESQL:
        engine = _open_postgresql(make_url(url))
    else:
        engine = create_async_engine(url, hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _on_connect)
        event.listen(engine.sync_engine, "handle_error", _on_error)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


@asynccontextmanager
async def patient(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine on the same database whose statements PostgreSQL lets take as long as they need, and so the wait to begin writing.

    Not the wait for a table: all who use it would wait behind.
    """
    if engine.dialect.name != Dialect.POSTGRESQL:
        yield engine
        return
    other = _open_postgresql(engine.url, patient=True)
    event.listen(other.sync_engine, "begin", _begin_patiently)
    try:
        yield other
    finally:
        await other.dispose()


def _open_postgresql(url: URL, *, patient: bool = False) -> AsyncEngine:
    async def creator(*_: object, **__: object) -> object:
        return await connect(url, patient=patient)

    # A server that was started anew costs no request: a connection is tried before it is used.
    return create_async_engine(url, hide_parameters=True, async_creator=creator, pool_pre_ping=True, pool_timeout=FREE_SECONDS)


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that only reads, on one snapshot."""
    async with _answering(), engine.connect() as connection:
        await connection.execution_options(**READS.get(connection.dialect.name, {}))
        async with connection.begin():
            yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes: committed on the way out, rolled back on an exception.

    It takes SQLite's write lock at its start, or PostgreSQL's for all but the record (waiting up to 5 s), so that what it read still holds
    when it writes.
    """
    async with _answering(), engine.connect() as connection:
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
    writes = bool(dict(connection.get_execution_options()).get("gateway_writes"))
    if connection.dialect.name == Dialect.SQLITE:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({STATE})")


def _begin_patiently(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    _begin(connection)
    connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Where a server doesn't answer, is gone or has no connection free, that is the database's refusal."""
    try:
        yield
    except (ConnectionError, TimeoutError, NoneFree) as error:
        raise OperationalError(None, None, error) from error
