"""A rehearsal: what would be done to a database, done to a copy in memory, while the database itself isn't touched."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.engine import open_engine, writing
from app.storage.tables import caller_keys, callers, grants, revision, sealed_keys, tokens

__all__ = ["rehearsed"]

COPIED = ("alembic_version", *(table.name for table in (tokens, callers, caller_keys, grants, sealed_keys, revision)))
SCHEMA = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY type DESC"
IN_MEMORY = "sqlite+aiosqlite://"


@dataclass(frozen=True, slots=True)
class _Copy:
    schema: list[str]
    rows: dict[str, list[tuple[object, ...]]]


@asynccontextmanager
async def rehearsed(path: Path) -> AsyncIterator[AsyncEngine]:
    """A database in memory with schema, tokens and callers of the one at `path`, without its records; empty where there is none.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the file is no database, or can't be read.
    """
    try:
        copy = await asyncio.to_thread(_read, path)
    except sqlite3.Error as error:
        raise DBAPIError(SCHEMA, None, error) from error
    engine = open_engine(IN_MEMORY)
    try:
        async with writing(engine) as connection:
            for statement in copy.schema:
                await connection.exec_driver_sql(statement)
            for table, rows in copy.rows.items():
                places = ", ".join("?" * len(rows[0]))
                await connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - our own tables' names
        yield engine
    finally:
        await engine.dispose()


def _read(path: Path) -> _Copy:
    if not path.exists():
        return _Copy([], {})
    with closing(sqlite3.connect(_address(path), uri=True)) as connection:
        # One snapshot, also beside a server that writes.
        connection.execute("BEGIN")
        schema = [row[0] for row in connection.execute(SCHEMA)]
        present = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in COPIED if table in present}  # noqa: S608 - as above
    return _Copy(schema, {table: found for table, found in rows.items() if found})


def _address(path: Path) -> str:
    """To read only. Without a log beside it the file stands for itself, and SQLite needn't make one to read it."""
    alone = not path.with_name(f"{path.name}-wal").exists()
    return f"file:{quote(str(path.resolve()))}?mode=ro{'&immutable=1' if alone else ''}"
