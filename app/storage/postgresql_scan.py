"""Reading a PostgreSQL database as it lies there: one snapshot, by cursors, and nothing that it computes from what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app.storage.connection import StorageError
from app.storage.postgresql import REFUSALS, connect, in_postgresql, leave
from app.storage.scan import BATCH_ROWS, LARGEST_VALUE, STORED, Damaged, RawRow, batched, legible

__all__ = ["PostgresScan", "scanning_server"]

T = TypeVar("T")

PATIENCE_SECONDS = 3_600.0
"""For one answer: the server may have to sort all entries of the index of IDs first."""

SMALL_VALUE = 16 * 1024
"""Larger ones are fetched one by one, so that a batch has some MiB at most."""

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
SESSION = {
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": f"{PATIENCE_SECONDS:g}s",
    # Rows that a policy hides are an error then.
    "row_security": "off",
    # Records come by their index, without all of them being sorted; how many there are is counted in the table.
    "enable_sort": "off",
    "enable_indexonlyscan": "off",
}
SET = "SELECT pg_catalog.set_config($1, $2, true)"
NARROW = """
    SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', nspname), true)
    FROM pg_catalog.pg_namespace JOIN pg_catalog.pg_class ON relnamespace = pg_namespace.oid
    WHERE pg_class.oid = pg_catalog.to_regclass('audit_records')
"""
"""Functions and operators are PostgreSQL's own then, whatever stands beside the tables."""

SAVE, GO_BACK = "SAVEPOINT begun", "ROLLBACK TO begun"
TABLE = """
    SELECT relkind = 'r' AND relpersistence = 'p' AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = pg_class.oid)
    FROM pg_class WHERE oid = to_regclass($1)
"""
COLUMNS = """
    SELECT attname, typname, attnotnull FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
TYPES = {"number": "int8", "version_num": "varchar"} | dict.fromkeys(("hash", "signature", "nonce", "sealed"), "bytea")
"""All others are text."""

PLACES = {"audit_records": "number", "audit_checkpoints": "number", "audit_tombstones": "row_number() OVER (ORDER BY ctid)"}
ROWS = (
    "SELECT {place}, CASE WHEN octet_length(body) <= {most} THEN body END, CASE WHEN octet_length({second}) <= {most} THEN {second} END, "
    "CASE WHEN octet_length(body) > {most} OR octet_length({second}) > {most} THEN ctid END FROM {table}"
)
ENTRIES = f"SELECT number, CASE WHEN octet_length(value) <= {SMALL_VALUE} THEN textsend(value) ELSE '' END, TRUE FROM audit_ids"  # noqa: S608 - a number

DAMAGED = ("22", "25", "42", "58", "XX")
"""Classes of PostgreSQL's errors (its manual, appendix A): what lies there can't be read, or isn't what the gateway made."""


class PostgresScan:
    """Reads one snapshot of a server's database.

    Every method raises `Damaged` or, where the server is gone, doesn't answer or doesn't let the gateway read, `StorageError`.

    Args:
        runner: runs what the connection does.
        connection: in a transaction that reads.
    """

    def __init__(self, runner: asyncio.Runner, connection: Any) -> None:  # noqa: ANN401 - the driver has no types
        self._runner = runner
        self._connection = connection

    def records(self) -> Iterator[Sequence[RawRow]]:
        """The records' `number`, `body` and `hash`, in order of number, in batches; None in place of what is larger than any."""
        seen = 0
        for batch in batched(self._stored("audit_records", "hash")):
            yield batch
            seen += len(batch)
        there = self.one("SELECT count(*) FROM audit_records")[0]
        if seen != there:
            message = f"by its index, audit_records has {seen} rows, and {there} lie there"
            raise Damaged(message)

    def seals(self, table: str) -> Iterator[Sequence[RawRow]]:
        """A table's row, `body` and `signature`, in the order in which they were stored, in batches."""
        return batched(self._stored(table, "signature"))

    def filed_ids(self, *, in_order: bool = False) -> Iterator[Sequence[RawRow]]:
        """The entries of `audit_ids` in batches: number, value in UTF-8, and that it is text.

        Args:
            in_order: by number.
        """
        return batched(self._rows(f"{ENTRIES} ORDER BY number" if in_order else ENTRIES))

    def last_number(self) -> int:
        """The highest number of a record."""
        return int(self.one("SELECT coalesce(max(number), 0) FROM audit_records")[0])

    def closed_chains(self) -> set[str]:
        """The chains that their processes ended."""
        return {legible(chain) for (chain,) in self._rows("SELECT id FROM audit_chains WHERE closed_at IS NOT NULL")}

    def schema(self) -> str | None:
        """The newest migration that the database has; None where it has none."""
        there = self.one("SELECT to_regclass('alembic_version') IS NOT NULL")[0]
        row = self.one("SELECT version_num FROM alembic_version") if there else None
        return legible(row[0]) if row else None

    def one(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - a row as the driver gives it
        """The first row that a query gives, or None."""
        row = self._do(self._connection.fetchrow(in_postgresql(query), *parameters, timeout=PATIENCE_SECONDS))
        return row and tuple(row)

    def begin(self) -> None:
        """See one moment from now on, and that the tables are the gateway's."""
        self._do(self._connection.execute(BEGIN))
        for name, value in SESSION.items():
            self.one(SET, name, value)
        self.one(NARROW)
        self._do(self._connection.execute(SAVE))
        for table, stored in STORED.items():
            self._require_table(table, stored)

    def _require_table(self, table: str, stored: set[str]) -> None:
        """What is there of it is a table: a view or a foreign table in its place could give anything, and without end."""
        kind = self.one(TABLE, table)
        if kind is None:
            return
        columns = list(self._rows(COLUMNS, table))
        types = {name: type_ for name, type_, _ in columns}
        numbered = all(never_null for name, _, never_null in columns if name == "number")
        if not (kind[0] and numbered and all(types.get(name) == TYPES.get(name, "text") for name in stored)):
            message = f"{table} isn't the table that the gateway made"
            raise Damaged(message)

    def _stored(self, table: str, second: str) -> Iterator[RawRow]:
        """The rows of a table, two columns of each; large values each by themselves."""
        every = ROWS.format(place=PLACES[table], second=second, table=table, most=SMALL_VALUE)
        large = ROWS.format(place="0", second=second, table=table, most=LARGEST_VALUE) + " WHERE ctid = $1"
        for place, body, other, where in self._rows(f"{every} ORDER BY 1"):
            yield (place, body, other) if where is None else (place, *self.one(large, where)[1:3])

    def _rows(self, query: str, *parameters: object) -> Iterator[Any]:
        cursor = self._do(self._cursor(query, parameters))
        while rows := self._do(cursor.fetch(BATCH_ROWS, timeout=PATIENCE_SECONDS)):
            yield from rows

    async def _cursor(self, query: str, parameters: Sequence[object]) -> Any:  # noqa: ANN401 - as above
        return await self._connection.cursor(query, *parameters, timeout=PATIENCE_SECONDS)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(work)
        except REFUSALS as error:
            if not _is_damage(error):
                raise StorageError(str(error) or "the server doesn't answer") from error
            with suppress(*REFUSALS):
                self._runner.run(self._connection.execute(GO_BACK))
            raise Damaged(str(error)) from error


@contextmanager
def scanning_server(url: str) -> Iterator[PostgresScan]:
    """Connect to a database, which others may write meanwhile; nothing is changed.

    Args:
        url: as SQLAlchemy takes it.

    Raises:
        Damaged: it can't be read.
        StorageError: the server can't be reached, or doesn't let the gateway in.
    """
    with asyncio.Runner() as runner:
        try:
            connection = runner.run(_connected(url))
        except OperationalError as error:
            raise StorageError(str(error.orig)) from error.orig
        try:
            scan = PostgresScan(runner, connection)
            scan.begin()
            yield scan
            runner.run(leave(connection))
        finally:
            # Whatever is under way ends here; after `leave` there is nothing.
            connection.terminate()


async def _connected(url: str) -> Any:  # noqa: ANN401 - as above
    connection = await connect(make_url(url), read_only=True)
    # Text comes as a bytearray and bytes as bytes, as from SQLite's file.
    await connection.set_type_codec("text", schema="pg_catalog", encoder=str.encode, decoder=bytearray, format="binary")
    return connection


def _is_damage(error: BaseException) -> bool:
    if not isinstance(error, asyncpg.PostgresError) or isinstance(error, asyncpg.InsufficientPrivilegeError):
        return False
    return str(error.sqlstate).startswith(DAMAGED)
