"""How far something has come, kept so that a new process goes on from there: in a file, or in the database that several processes share."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import utc_now
from app.errors import StartRefused
from app.storage import Connection, Dialect, StorageError, open_connection
from app.storage.files import sync_folder, whole_file

__all__ = ["Bookmark", "FileBookmark", "StoredBookmark", "bookmark_for"]

WIDTH = 20

log = structlog.get_logger(__name__)


class Bookmark(Protocol):
    """A number that outlives the process, killed or not. It begins with `place`."""

    def place(self, first: int) -> None:
        """See to it that there is one; a new one stands at `first`.

        Raises:
            StartRefused: it can't be kept.
        """

    def kept(self) -> int | None:
        """The number that stands there; None where there is none.

        Raises:
            StartRefused: it can't be read.
            StorageError: the server refuses, or doesn't answer.
        """

    def resume(self, kept: int | None, newest: int, *, first: int, oldest: int) -> int:
        """The number to go on from: the one that stood there.

        Args:
            kept: what `kept` gave.
            newest: the last number that was given out, looked up after that: who led before may be moving on still. A kept one beyond it
                is of another database, or of this one before an older copy was put in its place.
            first: where to begin where the kept one is beyond the newest.
            oldest: where to go on when what is kept is no number: whatever wasn't passed on yet comes after.

        Raises:
            StartRefused: it can't be kept.
            StorageError: the server refuses, or doesn't answer.
        """

    def move(self, number: int) -> None:
        """Stand at a later number from now on.

        Raises:
            OSError, StorageError: it can't be written.
        """

    def close(self) -> None:
        """Let it go."""


def bookmark_for(engine: AsyncEngine, state_dir: Path, name: str) -> Bookmark:
    """The bookmark of that name: a file in the state folder, or a row where several processes share a server's database."""
    if engine.dialect.name == Dialect.POSTGRESQL:
        return StoredBookmark(engine, name)
    return FileBookmark(state_dir / f"{name}.position")


class FileBookmark:
    """A number in a file of mode 0600.

    A new file is whole and on disk before it has its name, so one that holds no number was damaged. Later numbers aren't forced to the
    disk: after a loss of power it may stand a little further back.

    Args:
        path: the file; its folder must be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        # A number once closed may be another file's.
        self._one_at_a_time = Lock()

    def place(self, first: int) -> None:
        """Make the file where it is missing, and open it.

        Raises:
            StartRefused: the file can't be used.
        """
        try:
            if not self._path.exists():
                with whole_file(self._path) as file:
                    file.write(_written(first))
                sync_folder(self._path.parent)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error) from error

    def kept(self) -> int | None:
        """The number in the file; None where it holds none.

        Raises:
            StartRefused: the file can't be used.
        """
        assert self._descriptor is not None  # noqa: S101 - it begins with `place`
        try:
            written = os.pread(self._descriptor, WIDTH, 0).strip()
        except OSError as error:
            raise self._refused(error) from error
        return int(written) if written.isdigit() else None

    def resume(self, kept: int | None, newest: int, *, first: int, oldest: int) -> int:
        """The number to go on from.

        Raises:
            StartRefused: the file can't be used.
        """
        if kept is not None and kept <= newest:
            return kept
        number = oldest if kept is None else first
        try:
            self.move(number)
        except OSError as error:
            raise self._refused(error) from error
        if kept is None:
            log.warning("a bookmark holds no number: going on from the oldest, so what was passed on may come again", file=self._path.name)
        else:
            log.warning("a bookmark is beyond the database: was an older copy restored?", file=self._path.name, after=number)
        return number

    def move(self, number: int) -> None:
        """Stand at another number from now on, in one write.

        Raises:
            OSError: it can't be written.
        """
        with self._one_at_a_time:
            assert self._descriptor is not None  # noqa: S101 - it begins with `place`
            os.pwrite(self._descriptor, _written(number), 0)

    def close(self) -> None:
        """Close the file, once what is under way has ended."""
        with self._one_at_a_time:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _refused(self, error: OSError) -> StartRefused:
        return StartRefused(f"GATEWAY_STATE_DIR: {self._path} can't be used: {error.strerror}")


PLACE = "INSERT INTO bookmarks (name, number, moved_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
KEPT = "SELECT number FROM bookmarks WHERE name = ?"
SET = "UPDATE bookmarks SET number = ?, moved_at = ? WHERE name = ?"
MOVE = f"{SET} AND number < ?"


class StoredBookmark:
    """A row of a database that several processes share, of whom one moves it.

    It never goes back: one that led before, stood still, and hasn't noticed yet that another leads can't have what that one passed on come
    again.

    Args:
        engine: the database; the bookmark has a connection of its own to it.
        name: the row's.
    """

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._connection: Connection | None = None
        self._one_at_a_time = Lock()

    def place(self, first: int) -> None:
        """Make the row where it is missing.

        Raises:
            StartRefused: the server refuses, or doesn't answer.
        """
        try:
            self._execute(PLACE, self._name, first, utc_now())
        except StorageError as error:
            message = f"GATEWAY_DATABASE_URL: the table bookmarks can't be written: {error}"
            raise StartRefused(message) from error

    def kept(self) -> int | None:
        """The number in the row; None where there is no row.

        Raises:
            StorageError: the server refuses, or doesn't answer.
        """
        return next((int(number) for (number,) in self._execute(KEPT, self._name)), None)

    def resume(self, kept: int | None, newest: int, *, first: int, oldest: int) -> int:  # noqa: ARG002 - a column of numbers holds one
        """The number to go on from.

        Raises:
            StorageError: the server refuses, or doesn't answer.
        """
        if kept is None:
            self._execute(PLACE, self._name, first, utc_now())
            return first
        if kept <= newest:
            return kept
        log.warning("a bookmark is beyond the database: was an older copy restored?", bookmark=self._name, after=first)
        self._execute(SET, first, utc_now(), self._name)
        return first

    def move(self, number: int) -> None:
        """Stand at a later number from now on.

        Raises:
            StorageError: the server refuses, or doesn't answer.
        """
        self._execute(MOVE, number, utc_now(), self._name, number)

    def close(self) -> None:
        """Close the connection, once what is under way has ended."""
        with self._one_at_a_time:
            self._disconnect()

    def _execute(self, sql: str, *parameters: Any) -> Any:  # noqa: ANN401 - rows as the driver gives them
        with self._one_at_a_time:
            if self._connection is None:
                self._connection = open_connection(self._engine)
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except StorageError:
                # The next attempt gets a connection of its own.
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def _written(number: int) -> bytes:
    return b"%0*d\n" % (WIDTH, number)
