"""Reading a database as it lies there, to find out whether it was altered: one snapshot, without indexes and generated columns."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sys import getsizeof
from typing import Any
from urllib.parse import quote

from app.storage.tables import FILED_LISTS, FILED_MEMBERS

__all__ = ["LARGEST_VALUE", "Damaged", "RawRow", "Scan", "open_read_only", "scanning"]

BATCH_ROWS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
LARGEST_VALUE = 4 * 1024 * 1024
"""Many times the largest that the gateway stores: a record of a declared caller with thousands of grants has some hundred KiB."""

LOOK_EVERY = 100_000
"""Steps of the database's machine, some milliseconds, after which Python looks whether somebody interrupts."""

FIRST_ROW, LAST_ROW = -(1 << 63), (1 << 63) - 1
ROWS = "SELECT rowid, {}, {} FROM {} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
STORED = {
    "alembic_version": {"version_num"},
    "audit_chains": {"id", "closed_at"},
    "audit_checkpoints": {"body", "signature"},
    "audit_ids": {"value", "number"},
    "audit_records": {"number", "body", "hash"},
    "audit_tombstones": {"body", "signature"},
    "sealed_keys": {"name", "key_id", "nonce", "sealed"},
}
"""What is read, of which tables: it must lie there, and not be computed by what somebody else put in its place."""

ROW_NAMES = {"rowid", "oid", "_rowid_"}
RawRow = tuple[int, Any, Any]
"""A row's number, and two columns: a `bytearray` where SQLite holds text, else what it holds."""

READABLE = "typeof(r.body) = 'text' AND json_valid(r.body)"
TOLD = (
    *((f"json_each(r.body, '$.{name}') AS i", "i.value", "TRUE") for name in FILED_LISTS),
    *(
        ("(SELECT 1)", f"json_extract(r.body, '$.{member}')", f"json_extract(r.body, '$.name') = '{name}'")
        for name, member in FILED_MEMBERS.items()
    ),
)
"""What a record tells of, as the trigger reads it: where it is found, what it is, and on what condition."""

IDS_MISSING = (
    "SELECT DISTINCT number, value, TRUE FROM ("  # noqa: S608 - constants
    + " UNION ALL ".join(
        f"SELECT r.number, {value} AS value FROM audit_records AS r NOT INDEXED, {source} WHERE {READABLE} AND {condition}"  # noqa: S608 - constants
        for source, value, condition in TOLD
    )
    + ") AS told WHERE value IS NOT NULL AND NOT EXISTS "
    "(SELECT 1 FROM audit_ids AS a WHERE a.value = CAST(told.value AS TEXT) AND a.number = told.number) LIMIT ?"
)
IDS_EXTRA = (
    "SELECT a.number, a.value, r.number IS NOT NULL FROM audit_ids AS a LEFT JOIN audit_records AS r ON r.number = a.number "  # noqa: S608 - constants
    f"WHERE r.number IS NULL OR ({READABLE} AND NOT EXISTS ("
    + " UNION ALL ".join(f"SELECT 1 FROM {source} WHERE {value} = a.value AND {condition}" for source, value, condition in TOLD)  # noqa: S608 - constants
    + ")) LIMIT ?"
)


class Damaged(Exception):
    """The database's file can't be read on: a page of it isn't what SQLite wrote."""


class Scan:
    """Reads one snapshot.

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
        return _batched(self._rows("audit_records", "CASE number WHEN rowid THEN body END", "hash"))

    def seals(self, table: str) -> Iterator[Sequence[RawRow]]:
        """A table's `rowid`, `body` and `signature`, in the order in which they were stored, in batches.

        Raises:
            Damaged: after the last that can be read.
        """
        return _batched(self._rows(table, "body", "signature"))

    def filed_ids(self) -> Iterator[Sequence[RawRow]]:
        """The entries of `audit_ids` in batches: number, value in UTF-8, and whether it is text.

        Raises:
            Damaged: after the last that can be read.
        """
        return _batched(self._execute("SELECT number, CAST(value AS BLOB), typeof(value) = 'text' FROM audit_ids"))

    def misfiled(self, *, missing: bool, most: int) -> list[tuple[int, str, bool]]:
        """Entries that `audit_ids` lacks, or has though no record tells of them: number, value, and whether that record is there.

        It takes long: each record's body is read by the database.

        Raises:
            Damaged: that can't be read.
        """
        with _translated():
            rows = self._connection.execute(IDS_MISSING if missing else IDS_EXTRA, (most,)).fetchall()
        return [(number, _text(value), bool(there)) for number, value, there in rows]

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
            return {_text(row[0]) for row in self._connection.execute("SELECT id FROM audit_chains WHERE closed_at IS NOT NULL")}

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
def scanning(path: Path) -> Iterator[Scan]:
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
        yield Scan(connection)


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


def _require_tables(connection: sqlite3.Connection) -> None:
    """What is there of the tables is tables: a view or a virtual table in their place could give anything, and without end."""
    for table, stored in STORED.items():
        kinds = {_text(kind) for _, _, kind, *_ in connection.execute(f"PRAGMA main.table_list({table})")}
        columns = {_text(name).lower(): hidden for _, name, *_, hidden in connection.execute(f"PRAGMA main.table_xinfo({table})")}
        computed = {name for name, hidden in columns.items() if hidden}
        if kinds and (kinds != {"table"} or not stored <= {*columns} - computed or ROW_NAMES & {*columns}):
            message = f"{table} isn't the table that the gateway made"
            raise Damaged(message)


def _batched(rows: Iterable[RawRow]) -> Iterator[Sequence[RawRow]]:
    """So many rows at a time, or bytes."""
    batch: list[RawRow] = []
    size = 0
    with _translated():
        for row in rows:
            batch.append(row)
            size += getsizeof(row[1])
            if size > BATCH_BYTES or len(batch) == BATCH_ROWS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


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


def _text(value: object) -> str:
    return bytes(value).decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
