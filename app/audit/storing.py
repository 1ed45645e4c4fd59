"""The record's SQL, for whatever executes it: the writer's own thread, or the transaction of a change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain as chained
from typing import Any, Protocol

from app.audit.chain import Head, Row
from app.audit.records import ChainHead
from app.audit.seals import Seal
from app.domain import utc_now
from app.storage import Connection, Dialect, Executor, StorageError, Taken
from app.storage.locks import RECORD

__all__ = [
    "Condition",
    "ConditionFailed",
    "Execute",
    "heads_of",
    "insert_rows",
    "insert_seals",
    "known_ids",
    "last_number",
    "open_chain",
    "position_of",
    "records_from",
    "sealed_until",
    "transaction",
]

MOST_HEADS = 200
NEW_ROWS = "INSERT INTO audit_records (number, body, hash) SELECT * FROM (VALUES {}) WHERE "
ONE_ROW = "(?, ?, ?)"
AFTER_ALL = "NOT EXISTS (SELECT 1 FROM audit_records WHERE number >= ?)"
"""Nothing that is there has such a number or a higher one: a lower one may be free, where others wrote meanwhile and that is pruned."""

STILL_OPEN = "NOT EXISTS (SELECT 1 FROM audit_chains WHERE id = ? AND closed_at IS NOT NULL)"
"""Nobody has ended the chain."""

INSERT_UNNESTED = (
    f"WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock({RECORD})), "  # noqa: S608 - a constant
    "own AS MATERIALIZED (SELECT closed_at FROM alone, audit_chains WHERE id = ? FOR SHARE OF audit_chains) "
    "INSERT INTO audit_records (number, body, hash) "
    "SELECT number, body, hash FROM alone, unnest(?::bigint[], ?::text[], ?::bytea[]) AS row (number, body, hash) "
    f"WHERE {AFTER_ALL} AND NOT EXISTS (SELECT 1 FROM own WHERE closed_at IS NOT NULL)"
)
"""PostgreSQL's: under the record's lock. What was committed after the statement began, which it doesn't see, has the next numbers; that a
chain was closed since it does see, since it locks that row, and so reads it as it is then."""

INSERT_SEAL = (
    "INSERT INTO audit_checkpoints (number, body, signature) VALUES ((SELECT coalesce(max(number), 0) + 1 FROM audit_checkpoints), ?, ?)"
)


class Rows(Protocol):
    """What a statement gives."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...  # noqa: ANN401 - a row as the driver gives it

    def fetchall(self) -> Any: ...  # noqa: ANN401 - as above


Execute = Callable[[str, tuple[Any, ...]], Rows]
"""Executes one statement of SQL with its parameters."""

Condition = Callable[[Execute], bool]
"""What must hold, asked in the transaction that depends on it; it may write."""


class ConditionFailed(Exception):
    """A transaction's condition doesn't hold."""


@contextmanager
def transaction(connection: Connection, condition: Condition | None = None) -> Iterator[None]:
    """A transaction that writes the record, on a connection that commits by itself otherwise: rolled back on an exception.

    Raises:
        ConditionFailed: the condition, asked at its beginning, doesn't hold; nothing was written.
    """
    connection.begin_writing()
    try:
        _require(condition, connection.execute)
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(StorageError):
            connection.execute("ROLLBACK")
        raise


def last_number(execute: Execute) -> int:
    """The last place that is taken among all records; 0 where there are none."""
    return int(execute("SELECT coalesce(max(number), 0) FROM audit_records", ()).fetchone()[0])


def position_of(execute: Execute, chain: str) -> Head:
    """Where a chain stands."""
    found = execute("SELECT seq, hash FROM audit_records WHERE chain = ? ORDER BY seq DESC LIMIT 1", (chain,)).fetchone()
    return Head(chain, *found) if found else Head(chain)


def records_from(execute: Execute, head: Head) -> list[tuple[int, bytes, bytes]]:
    """`seq`, body and hash of a chain's records from its head on, that one too, in their order."""
    query = "SELECT seq, CAST(body AS BLOB), CAST(hash AS BLOB) FROM audit_records WHERE chain = ? AND seq >= ? ORDER BY seq"
    return [(int(seq), body, stored) for seq, body, stored in execute(query, (head.chain, head.seq)).fetchall()]


def sealed_until(execute: Execute, chain: str) -> int:
    """The `seq` of a chain's last checkpoint; 0 where there is none."""
    return int(execute("SELECT coalesce(max(seq), 0) FROM audit_checkpoints WHERE chain = ?", (chain,)).fetchone()[0])


def heads_of(execute: Execute) -> list[ChainHead]:
    """Where the known chains stand: those that are written to, then those that ended last; 200 at most."""
    query = (
        "SELECT id FROM audit_chains WHERE EXISTS (SELECT 1 FROM audit_records WHERE chain = audit_chains.id) "
        "ORDER BY closed_at IS NULL DESC, closed_at DESC, id DESC LIMIT ?"
    )
    return [position_of(execute, chain).members() for (chain,) in execute(query, (MOST_HEADS,)).fetchall()]


def known_ids(execute: Execute, ids: Iterable[str]) -> dict[str, int]:
    """Which of these records are there already, with their numbers."""
    query = "SELECT id, number FROM audit_records WHERE id IN (SELECT value FROM json_each(?))"
    return dict(execute(query, (json.dumps(list(ids)),)).fetchall())


def open_chain(execute: Execute, chain: str, lease_until: str | None, open_since: int | None = None) -> None:
    """A chain is written to from now on: by a process, from that number on, or, without a lease, by none in particular."""
    query = "INSERT INTO audit_chains (id, opened_at, lease_until, open_since) VALUES (?, ?, ?, ?)"
    execute(query, (chain, utc_now(), lease_until, open_since))


def insert_rows(executor: Executor, rows: Sequence[Row], *, unless_closed: str = "") -> None:
    """Store records, by one statement.

    Args:
        executor: writes to the database.
        rows: the records.
        unless_closed: their chain, where another process may end it.

    Raises:
        Taken: their places are, or their chain was ended.
    """
    if not rows:
        return
    first = rows[0].number
    if executor.dialect is Dialect.SQLITE:
        query = f"{NEW_ROWS.format(','.join([ONE_ROW] * len(rows)))}{AFTER_ALL} AND {STILL_OPEN}"
        values = (*chained.from_iterable(rows), first, unless_closed)
    else:
        query, values = INSERT_UNNESTED, (unless_closed, *map(list, zip(*rows, strict=True)), first)
    if executor.execute(query, values).rowcount != len(rows):
        message = f"the place {first} is taken, or there are records behind it, or the chain was ended"
        raise Taken(message)


def insert_seals(execute: Execute, seals: Iterable[Seal]) -> None:
    """Store checkpoints, in a transaction that writes the record: their numbers are the order in which they were made."""
    for seal in seals:
        execute(INSERT_SEAL, (seal.body, seal.signature))


def _require(condition: Condition | None, execute: Execute) -> None:
    if condition and not condition(execute):
        raise ConditionFailed
