"""A rehearsal: what would be done to a database, done to a copy in memory, while the database itself isn't touched."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.engine import open_engine, writing
from app.storage.tables import caller_keys, callers, grants, revision, schema_needs, sealed_keys, tokens

__all__ = ["COPIED", "IN_MEMORY", "rehearsed"]

COPIED = tuple(table.name for table in (tokens, callers, caller_keys, grants, sealed_keys, revision, schema_needs))
SCHEMA = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY type = 'table' DESC"
DATABASE, LOG, INDEX = "", "-wal", "-shm"
ATTEMPTS = 20
PAUSE_SECONDS = 0.05
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
    """Read the file, again where a server came, went or wrote so that what was read may be of two moments.

    Raises:
        sqlite3.Error: it can't be read, or doesn't stay the same for as long as that takes.
    """
    # Where it really lies, since its log lies there too.
    path = path.resolve()
    failure: sqlite3.Error = sqlite3.OperationalError("it changes all the time while it is read")
    for _ in range(ATTEMPTS):
        before = _traces(path)
        try:
            copy = _read_beside(path, before)
        except sqlite3.Error as error:
            failure = error
            # An index may be a server's that has only begun to make it, or is about to take it away: that passes, a broken file stays.
            if not before[INDEX] and _traces(path) == before:
                raise
        else:
            if before[INDEX] or _traces(path) == before:
                return copy
        time.sleep(PAUSE_SECONDS)
    raise failure


Traces = dict[str, tuple[int, int, int] | None]
"""What tells whether the database's files were written meanwhile: of each its number, size and last change; None where there is none."""


def _traces(path: Path) -> Traces:
    return {ending: _trace(path.with_name(path.name + ending)) for ending in (DATABASE, LOG, INDEX)}


def _trace(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_beside(path: Path, traces: Traces) -> _Copy:
    """Read the file so that nothing beside it is written or made: to read its log SQLite would make an index, or write the one there.

    Raises:
        sqlite3.Error
    """
    if traces[DATABASE] is None:
        return _Copy([], {})
    address = f"file:{quote(str(path))}?mode=ro"
    if traces[INDEX]:
        # Beside a server this is one reader more; where a crash left the index, SQLite makes its own in memory.
        return _read_at(f"{address}&readonly_shm=1")
    if traces[LOG]:
        return _read_copied(path)
    return _read_at(f"{address}&immutable=1")


def _read_copied(path: Path) -> _Copy:
    """Nobody has the file open, but a log without an index lies beside it, which can be read only where an index may be made."""
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-") as folder:
        copied = Path(folder, path.name)
        try:
            for ending in (DATABASE, LOG):
                shutil.copyfile(path.with_name(path.name + ending), copied.with_name(path.name + ending))
        except OSError as error:
            message = f"it can't be copied into {folder}: {error.strerror}"
            raise sqlite3.OperationalError(message) from error
        return _read_at(f"file:{quote(str(copied))}")


def _read_at(address: str) -> _Copy:
    with closing(sqlite3.connect(address, uri=True)) as connection:
        # One snapshot, also beside a server that writes.
        connection.execute("BEGIN")
        schema = [row[0] for row in connection.execute(SCHEMA)]
        present = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        copied = [table for table in ("alembic_version", *COPIED) if table in present]
        rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in copied}  # noqa: S608 - as above
    return _Copy(schema, {table: found for table, found in rows.items() if found})
