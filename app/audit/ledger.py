"""The process's own chain, in the database: every group of records is chained, stored and, now and then, sealed by a checkpoint."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.audit.chain import Head, Row, link
from app.audit.records import Record, chain_opened
from app.audit.seals import Seal, Signer
from app.audit.storing import (
    Execute,
    heads_of,
    insert_rows,
    insert_seals,
    known_ids,
    last_number,
    open_chain,
    position_of,
    sealed_until,
)
from app.domain import new_id, utc_now
from app.storage import DatabaseThread

__all__ = ["Ledger", "Listener"]

CHECKPOINT_RECORDS = 1_000
CHECKPOINT_SECONDS = 50.0
LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Hears, on the loop, of what has become durable."""

    def appended(self, rows: Sequence[Row]) -> None:
        """These records are on disk."""

    def sealed(self, seals: Sequence[Seal]) -> None:
        """These checkpoints are on disk."""


@dataclass(frozen=True, slots=True)
class _Position:
    """Where the chain stands in the database; `sealed` is the `seq` of its last checkpoint."""

    head: Head
    number: int
    sealed: int


class Ledger:
    """Keeps the chain of one process. It begins with the first record that there is to write.

    Args:
        thread: does the work on the database.
        signer: signs the checkpoints: one every 1,000 records, one a minute while there is something to cover, one at the end.
        listeners: who hears of it.
    """

    def __init__(self, thread: DatabaseThread, signer: Signer, listeners: Sequence[Listener] = ()) -> None:
        self.chain = new_id()
        self._thread = thread
        self._signer = signer
        self._listeners = listeners
        self._position: _Position | None = None
        self._uncovered_since: float | None = None

    async def append(self, records: Sequence[Record]) -> None:
        """Commit these records, in this order; durable when it returns. A record that is there already isn't written twice.

        Raises:
            SQLAlchemyError: they are not there, or that isn't known; the next attempt finds out.
        """
        rows, seals = await self._thread.run(lambda connection: self._append(connection, records))
        if self._uncovered_since is None and rows:
            self._uncovered_since = time.monotonic()
        self._tell(rows, seals)

    async def probe(self) -> None:
        """Find out whether a record could be appended now, without leaving one.

        Raises:
            SQLAlchemyError: it could not.
        """
        await self._thread.run(_probe)

    async def checkpoint(self) -> None:
        """Seal what no checkpoint covers yet.

        Raises:
            SQLAlchemyError: it isn't on disk.
        """
        seals = await self._thread.run(self._seal)
        self._uncovered_since = None
        self._tell([], seals)

    async def aclose(self) -> None:
        """Seal the chain's end and give up the lease. Where that can't be written, the next process does it."""
        try:
            await self.checkpoint()
            await self._thread.run(self._close)
        except SQLAlchemyError as error:
            log.error("the audit chain's end can't be sealed", chain=self.chain, error=str(error))  # noqa: TRY400 - the database's word is enough

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the lease and seal what is due, while the context lasts."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                if self._uncovered_since is not None and time.monotonic() - self._uncovered_since >= CHECKPOINT_SECONDS:
                    await self.checkpoint()
                await self._thread.run(self._renew)
            except Exception:
                # The task's outermost edge: what couldn't be sealed is sealed at the next beat.
                log.exception("the audit chain's lease or checkpoint can't be written")

    def _tell(self, rows: Sequence[Row], seals: Sequence[Seal]) -> None:
        for listener in self._listeners:
            if rows:
                listener.appended(rows)
            if seals:
                listener.sealed(seals)

    def _append(self, connection: sqlite3.Connection, records: Sequence[Record]) -> tuple[list[Row], list[Seal]]:
        try:
            if self._position:
                return self._store(connection, self._position, records)
        except sqlite3.IntegrityError:
            # Another process took the next places: a command, say, that changed a token.
            self._position = None
        except sqlite3.Error:
            self._position = None
            raise
        there = known_ids(connection.execute, [record.id for record in records])
        return self._store(connection, self._read(connection.execute), [record for record in records if record.id not in there])

    def _read(self, execute: Execute) -> _Position:
        return _Position(position_of(execute, self.chain), last_number(execute), sealed_until(execute, self.chain))

    def _store(self, connection: sqlite3.Connection, position: _Position, records: Sequence[Record]) -> tuple[list[Row], list[Seal]]:
        opens = not position.head.seq
        if opens:
            records = [chain_opened(heads_of(connection.execute)), *records]
        rows, head = link(position.head, records, position.number)
        seals, sealed = self._due(position, rows)
        if opens or seals:
            with _transaction(connection):
                if opens:
                    open_chain(connection.execute, self.chain, _lease_end())
                insert_rows(connection.execute, rows)
                insert_seals(connection.execute, seals)
        elif rows:
            insert_rows(connection.execute, rows)
        self._position = _Position(head, position.number + len(rows), sealed)
        return rows, seals

    def _due(self, position: _Position, rows: Sequence[Row]) -> tuple[list[Seal], int]:
        """The checkpoints that fall due among the rows, and the `seq` of the last there is then."""
        seals, sealed = [], position.sealed
        reached = position.head.seq + len(rows)
        while reached - sealed >= CHECKPOINT_RECORDS:
            due = max(sealed + CHECKPOINT_RECORDS, position.head.seq + 1)
            seals.append(self._signer.checkpoint(Head(self.chain, due, rows[due - position.head.seq - 1].hash), sealed))
            sealed = due
        return seals, sealed

    def _seal(self, connection: sqlite3.Connection) -> list[Seal]:
        position = self._read(connection.execute)
        if position.head.seq <= position.sealed:
            return []
        seal = self._signer.checkpoint(position.head, position.sealed)
        insert_seals(connection.execute, [seal])
        self._position = _Position(position.head, position.number, position.head.seq)
        return [seal]

    def _renew(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE audit_chains SET lease_until = ? WHERE id = ?", (_lease_end(), self.chain))

    def _close(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE audit_chains SET lease_until = NULL, closed_at = ? WHERE id = ?", (utc_now(), self.chain))


def _probe(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    insert_rows(connection.execute, [Row(0, '{"number":0}', b"")])
    connection.execute("ROLLBACK")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _lease_end() -> str:
    return (datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)).isoformat(timespec="microseconds")
