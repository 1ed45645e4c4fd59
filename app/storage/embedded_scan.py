"""Reading SQLite's file as it lies there: one snapshot, without indexes and generated columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from app.storage.embedded import open_read_only
from app.storage.scan import LARGEST_VALUE, STORED, Damaged, RawRow, batched, legible

__all__ = ["EmbeddedScan", "scanning"]

LOOK_EVERY = 100_000
"""Steps of the database's machine, some milliseconds, after which Python looks whether somebody interrupts."""

FIRST_ROW, LAST_ROW = -(1 << 63), (1 << 63) - 1
ROWS = "SELECT rowid, {}, {} FROM {} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
ROW_NAMES = {"rowid", "oid", "_rowid_"}
ENTRY = "CASE typeof(number) WHEN 'integer' THEN number END, CAST(value AS BLOB), typeof(value) = 'text'"


class EmbeddedScan:
    """Reads one snapshot of a file.

    Args:
        connection: in a transaction that reads.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def records(self) -> Iterator[Sequence[RawRow]]:
        """The records' `number`, `body` and `hash`, in order of number, in batches.

        Where these are larger than any that the gateway stores, or the number isn't what the row is found by, there is None in their place.

        Raises:
            Damaged: after the last that can be read.
        """
        return _translating(batched(self._rows("audit_records", "CASE number WHEN rowid THEN body END", "hash")))

    def seals(self, table: str) -> Iterator[Sequence[RawRow]]:
        """A table's `rowid`, `body` and `signature`, in the order in which they were stored, in batches.

        Raises:
            Damaged: after the last that can be read.
        """
        return _translating(batched(self._rows(table, "body", "signature")))

    def filed_ids(self, *, in_order: bool = False) -> Iterator[Sequence[RawRow]]:
        """The entries of `audit_ids` in batches: number (None where it is none), value in UTF-8, and whether it is text.

        Args:
            in_order: by number, those without one first.

        Raises:
            Damaged: after the last that can be read.
        """
        return _translating(batched(self._execute(f"SELECT {ENTRY} FROM audit_ids{' ORDER BY 1' if in_order else ''}")))  # noqa: S608 - constants

    def last_number(self) -> int:
        """The highest number of a record.

        Raises:
            Damaged: it can't be read.
        """
        return int(self.one("SELECT coalesce(max(number), 0) FROM audit_records NOT INDEXED")[0])

    def closed_chains(self) -> set[str]:
        """The chains that their processes ended.

        Raises:
            Damaged: they can't be read.
        """
        with _translated():
            return {legible(row[0]) for row in self._connection.execute("SELECT id FROM audit_chains WHERE closed_at IS NOT NULL")}

    def schema(self) -> str | None:
        """The newest migration that the database has; None where that can't be read.

        Raises:
            Damaged: the file can't be read.
        """
        table = self.one("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'alembic_version'")
        row = self.one("SELECT version_num FROM alembic_version") if table else None
        return legible(row[0]) if row and type(row[0]) is bytearray else None

    def one(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - a row as the driver gives it
        """The first row that a query gives, or None.

        Raises:
            Damaged: it can't be read.
        """
        with _translated():
            return self._connection.execute(query, parameters).fetchone()

    def _rows(self, table: str, first: str, second: str) -> Iterator[RawRow]:
        """The rows of a table, two columns of each."""
        query, place = ROWS.format(first, second, table), FIRST_ROW
        while place <= LAST_ROW:
            try:
                for row in self._connection.execute(query, (place,)):
                    place = row[0] + 1
                    yield row
            except sqlite3.DataError as error:
                if not _is(error, sqlite3.SQLITE_TOOBIG):
                    raise
                # The driver is one row ahead: it may be that one which is too large.
                yield (row := self._readable(table, first, second, place))
                place = row[0] + 1
            else:
                return

    def _readable(self, table: str, first: str, second: str, place: int) -> RawRow:
        """The next row, without the columns that are too large to be read."""
        for columns in ((first, second), ("NULL", second)):
            with suppress(sqlite3.DataError):
                return self._next_row(table, *columns, place)
        return self._next_row(table, "NULL", "NULL", place)

    def _next_row(self, table: str, first: str, second: str, place: int) -> RawRow:
        row: RawRow = self._connection.execute(ROWS.format(first, second, table) + " LIMIT 1", (place,)).fetchone()
        return row

    def _execute(self, query: str) -> Iterator[RawRow]:
        yield from self._connection.execute(query)


@contextmanager
def scanning(path: Path) -> Iterator[EmbeddedScan]:
    """Open a database, also beside a server that writes; nothing is made or changed.

    Raises:
        Damaged: it can't be read.
    """
    with _translated():
        connection = open_read_only(path)
    with closing(connection):
        # A TEXT comes as a bytearray and a BLOB as bytes: their kinds can't be exchanged unseen, and nothing need be UTF-8.
        connection.text_factory = bytearray
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
        connection.set_progress_handler(_look, LOOK_EVERY)
        with _translated():
            for pragma in ("query_only=ON", "busy_timeout=5000", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
            _require_tables(connection)
        yield EmbeddedScan(connection)


def _require_tables(connection: sqlite3.Connection) -> None:
    """What is there of the tables is tables: a view or a virtual table in their place could give anything, and without end."""
    for table, stored in STORED.items():
        kinds = {legible(kind) for _, _, kind, *_ in connection.execute(f"PRAGMA main.table_list({table})")}
        columns = {legible(name).lower(): hidden for _, name, *_, hidden in connection.execute(f"PRAGMA main.table_xinfo({table})")}
        computed = {name for name, hidden in columns.items() if hidden}
        if kinds and (kinds != {"table"} or not stored <= {*columns} - computed or ROW_NAMES & {*columns}):
            message = f"{table} isn't the table that the gateway made"
            raise Damaged(message)


def _translating(batches: Iterator[Sequence[RawRow]]) -> Iterator[Sequence[RawRow]]:
    with _translated():
        yield from batches


def _is(error: sqlite3.Error, code: int) -> bool:
    return getattr(error, "sqlite_errorcode", None) == code


def _look() -> int:
    """Go on. Python handles signals as it calls this: what it raises then breaks the query off."""
    return 0


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _is(error, sqlite3.SQLITE_INTERRUPT):
            raise KeyboardInterrupt from error
        raise Damaged(str(error)) from error
