"""A rehearsal for a server's database: the copy in memory is SQLite's, of the same schema, and nothing is written to the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.storage.engine import open_engine, reading, writing
from app.storage.migrate import known_schemas, newest_schema, require_usable, schema_within, upgrade
from app.storage.rehearsal import COPIED, IN_MEMORY
from app.storage.tables import METADATA

__all__ = ["Served", "rehearsed_server"]

IS_STANDBY = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"
MAY_CREATE = "SELECT has_schema_privilege(current_schema(), 'CREATE')"
MAY = "SELECT " + " AND ".join(f"has_table_privilege($1::text, '{right}')" for right in ("SELECT", "INSERT", "UPDATE", "DELETE"))


@dataclass(frozen=True, slots=True)
class Served:
    """What was found: the copy, the schema there (None: it is empty), and what would keep a start from writing (None: nothing)."""

    engine: AsyncEngine
    schema: str | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: list[str]
    rows: list[tuple[object, ...]]


@asynccontextmanager
async def rehearsed_server(url: str) -> AsyncIterator[Served]:
    """A database in memory with schema, tokens and callers of a server's, without its records; empty where that is.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the server can't be reached, or doesn't let the gateway read.
        StartRefused: the database was made by a newer version.
    """
    served = open_engine(url)
    try:
        async with reading(served) as connection:
            schema = await connection.run_sync(schema_within)
            if schema is not None and schema not in known_schemas():
                await connection.run_sync(require_usable, schema)
            names = await connection.run_sync(_tables)
            tables = [await _read(connection, name) for name in COPIED if name in names]
            fault = await _fault(connection, names)
    finally:
        await served.dispose()
    async with _copy(schema, tables) as engine:
        yield Served(engine, schema, fault)


@asynccontextmanager
async def _copy(schema: str | None, tables: list[_Table]) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(IN_MEMORY)
    try:
        if schema is not None:
            await upgrade(engine, schema if schema in known_schemas() else newest_schema())
            async with writing(engine) as connection:
                for table in tables:
                    await _write(connection, table)
        yield engine
    finally:
        await engine.dispose()


async def _read(connection: AsyncConnection, name: str) -> _Table:
    found = await connection.exec_driver_sql(f"SELECT * FROM {name}")  # noqa: S608 - our own tables' names
    return _Table(name, list(found.keys()), [tuple(row) for row in found])


async def _write(connection: AsyncConnection, table: _Table) -> None:
    """Write its rows; a newer version's columns aren't known here."""
    known = {column["name"] for column in await connection.run_sync(lambda sync: inspect(sync).get_columns(table.name))}
    kept = [place for place, column in enumerate(table.columns) if column in known]
    if table.rows:
        columns, places = ", ".join(table.columns[place] for place in kept), ", ".join("?" * len(kept))
        query = f"INSERT OR REPLACE INTO {table.name} ({columns}) VALUES ({places})"  # noqa: S608 - as above
        await connection.exec_driver_sql(query, [tuple(row[place] for place in kept) for row in table.rows])


async def _fault(connection: AsyncConnection, names: set[str]) -> str | None:
    if await _says(connection, IS_STANDBY):
        return "it can only be read, as a standby"
    missing = {*METADATA.tables} - names
    if missing and not await _says(connection, MAY_CREATE):
        return "its user may not create tables there: bring it to the newest schema with `db upgrade` as a user who may"
    closed = [name for name in sorted(names & {*METADATA.tables}) if not await _says(connection, MAY, name)]
    return f"its user may not read and write {', '.join(closed)}" if closed else None


async def _says(connection: AsyncConnection, query: str, *parameters: object) -> bool:
    return bool((await connection.exec_driver_sql(query, parameters)).scalar_one())


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())
