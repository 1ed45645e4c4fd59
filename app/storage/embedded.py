"""SQLite: how its connections are prepared, and the one for work in a thread."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor

from app.storage.connection import Dialect, Rows, StorageError, Taken

__all__ = ["EmbeddedConnection", "open_embedded", "open_embedded_reading", "open_read_only", "prepare"]

BUSY_TIMEOUT_MS = 5_000
SWITCH_POLL_MS = 10
STEPS_BETWEEN_LOOKS = 10_000


class EmbeddedConnection:
    """A connection to SQLite that commits by itself.

    Args:
        connection: with `isolation_level=None`.
    """

    dialect = Dialect.SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Execute one statement.

        Raises:
            Taken: a constraint forbids it.
            StorageError
        """
        try:
            cursor = self._connection.execute(sql, parameters)
            return Rows(cursor.fetchall(), cursor.rowcount)
        except sqlite3.IntegrityError as error:
            raise Taken(str(error)) from error
        except sqlite3.Error as error:
            raise StorageError(str(error)) from error

    def begin_reading(self) -> None:
        """Begin a transaction that sees one moment."""
        self.execute("BEGIN")

    def begin_writing(self) -> None:
        """Begin a transaction with the database's write lock."""
        self.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        """Leave the database."""
        self._connection.close()


def open_embedded(path: str) -> EmbeddedConnection:
    """Open a database's file.

    Raises:
        StorageError
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        prepare(connection)
    except sqlite3.Error as error:
        raise StorageError(str(error)) from error
    return EmbeddedConnection(connection)


def open_embedded_reading(path: str, is_vain: Callable[[], bool]) -> EmbeddedConnection:
    """Open a database's file, never for writing.

    Args:
        path: the file.
        is_vain: asked while statements run; where it says so they are broken off.

    Raises:
        StorageError
    """
    try:
        connection = open_read_only(Path(path))
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    except sqlite3.Error as error:
        raise StorageError(str(error)) from error
    # A connection's own `interrupt` would miss who is between two of its many statements; this is asked in all of them together.
    connection.set_progress_handler(is_vain, STEPS_BETWEEN_LOOKS)
    return EmbeddedConnection(connection)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database that isn't to be changed, also beside a server that writes.

    Where nobody can write, as on a read-only medium, it is taken for what doesn't change, and needs no file beside it.

    Raises:
        sqlite3.Error: it can't be opened.
    """
    options = "mode=ro&immutable=1" if _is_still(path) else "mode=ro"
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?{options}", uri=True, isolation_level=None)


def _is_still(path: Path) -> bool:
    """Whether its folder can't be written, and nothing stands in a log beside it, which would be left out."""
    log = path.resolve().with_name(f"{path.resolve().name}-wal")
    return not os.access(path.resolve().parent, os.W_OK) and not (log.exists() and log.stat().st_size)


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
