"""Reading a database as it lies there, to find out whether it was altered: one snapshot, without indexes and generated columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["Damaged", "RawRow", "Scan", "scanning"]

BATCH_ROWS = 1_000
RawRow = tuple[int, Any, Any]
"""A row's number, and two columns: a `bytearray` where SQLite holds text, else what it holds."""

READABLE = "typeof(r.body) = 'text' AND json_valid(r.body)"
LISTS = ("ids", "linked_ids", "call_ids")
BEGINNINGS = (("call:intent", "call_id"), ("call:outcome", "call_id"), ("send:intent", "send_id"))
TOLD = (
    *((f"json_each(r.body, '$.{name}') AS i", "i.value", "TRUE") for name in LISTS),
    *(("(SELECT 1)", f"json_extract(r.body, '$.{member}')", f"json_extract(r.body, '$.name') = '{name}'") for name, member in BEGINNINGS),
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

        Raises:
            Damaged: after the last that can be read.
        """
        return self._batches("SELECT number, body, hash FROM audit_records NOT INDEXED ORDER BY number")

    def seals(self, table: str) -> Iterator[Sequence[RawRow]]:
        """A table's `rowid`, `body` and `signature`, in the order in which they were stored, in batches.

        Raises:
            Damaged: after the last that can be read.
        """
        return self._batches(f"SELECT rowid, body, signature FROM {table} NOT INDEXED ORDER BY rowid")  # noqa: S608 - a table's name

    def filed_ids(self) -> Iterator[Sequence[RawRow]]:
        """The entries of `audit_ids` in batches: number, value in UTF-8, and whether it is text.

        Raises:
            Damaged: after the last that can be read.
        """
        return self._batches("SELECT number, CAST(value AS BLOB), typeof(value) = 'text' FROM audit_ids")

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

    def newest_seals(self) -> Iterator[tuple[str, bytes]]:
        """The body and signature of each chain's last checkpoint.

        Raises:
            Damaged: they can't be read.
        """
        query = (
            "SELECT body, signature FROM audit_checkpoints AS c WHERE seq = (SELECT max(seq) FROM audit_checkpoints WHERE chain = c.chain)"
        )
        with _translated():
            for body, signature in self._connection.execute(query):
                yield _text(body), bytes(signature)

    def one(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - a row as the driver gives it
        """The first row that a query gives, or None.

        Raises:
            Damaged: it can't be read.
        """
        with _translated():
            return self._connection.execute(query, parameters).fetchone()

    def _batches(self, query: str) -> Iterator[Sequence[RawRow]]:
        with _translated():
            cursor = self._connection.execute(query)
            while batch := cursor.fetchmany(BATCH_ROWS):
                yield batch


@contextmanager
def scanning(path: Path) -> Iterator[Scan]:
    """Open a database, also beside a server that writes; nothing is made or changed.

    Raises:
        Damaged: it can't be read.
    """
    with _translated():
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
    with closing(connection):
        # A TEXT comes as a bytearray and a BLOB as bytes: their kinds can't be exchanged unseen, and nothing need be UTF-8.
        connection.text_factory = bytearray
        with _translated():
            for pragma in ("query_only=ON", "busy_timeout=5000", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        yield Scan(connection)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Damaged(str(error)) from error


def _text(value: object) -> str:
    return bytes(value).decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
