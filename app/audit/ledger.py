"""The process's own chain, in the database: every group of records is chained, stored and, now and then, sealed by a checkpoint."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.audit.chain import Head, Row, link
from app.audit.leases import HEARTBEAT_SECONDS, give_up_lease, lease_end, renew_lease
from app.audit.records import Record, chain_opened
from app.audit.seals import Seal, Signer
from app.audit.storing import (
    Condition,
    ConditionFailed,
    Execute,
    heads_of,
    insert_rows,
    insert_seals,
    known_ids,
    last_number,
    open_chain,
    position_of,
    sealed_until,
    transaction,
)
from app.audit.unfinished import Unfinished
from app.domain import new_id
from app.storage import DatabaseThread

__all__ = ["Ledger", "Listener"]

CHECKPOINT_RECORDS = 1_000
CHECKPOINT_SECONDS = 50.0

log = structlog.get_logger(__name__)


_Written = tuple[list[Row], list[Seal]]


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
    """Keeps the chain of one process, and its lease. It begins with the first record that there is to write.

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
        self._unfinished = Unfinished()
        self._uncovered_since: float | None = None

    async def append(self, records: Sequence[Record]) -> None:
        """Commit these records, in this order; durable when it returns. A record that is there already isn't written twice.

        Raises:
            SQLAlchemyError: they are not there, or that isn't known; the next attempt finds out.
        """
        await self._commit(lambda connection: self._append(connection, records, None))

    async def append_if(self, condition: Condition, records: Sequence[Record]) -> bool:
        """Commit these records if the condition holds, in one transaction with what it writes; gives whether it does.

        Raises:
            SQLAlchemyError: as `append`.
        """

        def work(connection: sqlite3.Connection) -> _Written | None:
            with suppress(ConditionFailed):
                return self._append(connection, records, condition)
            return None

        return await self._commit(work)

    async def seal_if(self, condition: Condition, head: Head | None) -> bool:
        """Seal another chain at its end if the condition holds, in one transaction with what it writes; gives whether it does.

        Args:
            condition: what must hold.
            head: where that chain stands; None where nothing is to be sealed.

        Raises:
            SQLAlchemyError: it isn't on disk, or that isn't known.
        """

        def work(connection: sqlite3.Connection) -> _Written | None:
            with suppress(ConditionFailed), transaction(connection, condition):
                return [], self._seal_other(connection.execute, head) if head else []
            return None

        return await self._commit(work)

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

    async def begin_anew(self) -> None:
        """Where intents have no outcome here, give this chain up, for recovery to close them, and go on in a new one.

        To be called when what a dead process left in the spool is written, before anything else is: its calls are nobody's any more.

        Raises:
            SQLAlchemyError: that couldn't be written.
        """
        if await self._thread.run(lambda _: len(self._unfinished)):
            await self.checkpoint()
            await self._thread.run(self._turn_over)

    async def aclose(self) -> None:
        """Seal the chain's end and give up the lease. What can't be written, or has no outcome, the next process sees to."""
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

    async def _commit(self, work: Callable[[sqlite3.Connection], _Written | None]) -> bool:
        written = await self._thread.run(work)
        if written is None:
            return False
        rows, seals = written
        if self._uncovered_since is None and rows:
            self._uncovered_since = time.monotonic()
        self._tell(rows, seals)
        return True

    def _tell(self, rows: Sequence[Row], seals: Sequence[Seal]) -> None:
        for listener in self._listeners:
            if rows:
                listener.appended(rows)
            if seals:
                listener.sealed(seals)

    def _append(self, connection: sqlite3.Connection, records: Sequence[Record], condition: Condition | None) -> _Written:
        try:
            if self._position:
                return self._append_at(connection, self._position, records, condition)
        except sqlite3.IntegrityError:
            # Another process took the next places: a command, say, that changed a token.
            self._position = None
        except sqlite3.Error:
            self._position = None
            raise
        return self._append_anew(connection, records, condition)

    def _append_at(
        self, connection: sqlite3.Connection, position: _Position, records: Sequence[Record], condition: Condition | None
    ) -> _Written:
        rows, seals, reached = self._chained(position, records)
        if seals or condition:
            with transaction(connection, condition):
                insert_rows(connection.execute, rows)
                insert_seals(connection.execute, seals)
        else:
            insert_rows(connection.execute, rows)
        self._note(reached, rows, records)
        return rows, seals

    def _append_anew(self, connection: sqlite3.Connection, records: Sequence[Record], condition: Condition | None) -> _Written:
        """Where the place isn't known: it is read under the write lock, so that nobody takes it meanwhile."""
        execute = connection.execute
        with transaction(connection, condition):
            there = known_ids(execute, [record.id for record in records])
            new, position = [record for record in records if record.id not in there], self._read(execute)
            if not position.head.seq:
                new = [chain_opened(heads_of(execute)), *new]
                open_chain(execute, self.chain, lease_end(), position.number + 1)
            rows, seals, reached = self._chained(position, new)
            insert_rows(execute, rows)
            insert_seals(execute, seals)
        for record in records:
            if record.id in there:
                self._unfinished.see(there[record.id], record.members)
        self._note(reached, rows, new)
        return rows, seals

    def _chained(self, position: _Position, records: Sequence[Record]) -> tuple[list[Row], list[Seal], _Position]:
        """The records' rows, the checkpoints that fall due among them, and where the chain stands then."""
        rows, head = link(position.head, records, position.number)
        seals, sealed = self._due(position, rows)
        return rows, seals, _Position(head, position.number + len(rows), sealed)

    def _note(self, reached: _Position, rows: Sequence[Row], records: Sequence[Record]) -> None:
        self._position = reached
        for row, record in zip(rows, records, strict=True):
            self._unfinished.see(row.number, record.members)

    def _read(self, execute: Execute) -> _Position:
        return _Position(position_of(execute, self.chain), last_number(execute), sealed_until(execute, self.chain))

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

    def _seal_other(self, execute: Execute, head: Head) -> list[Seal]:
        sealed = sealed_until(execute, head.chain)
        if head.seq <= sealed:
            return []
        seals = [self._signer.checkpoint(head, sealed)]
        insert_seals(execute, seals)
        return seals

    def _renew(self, connection: sqlite3.Connection) -> None:
        next_number = self._position.number + 1 if self._position else None
        renew_lease(connection.execute, self.chain, self._unfinished.first(next_number))

    def _turn_over(self, connection: sqlite3.Connection) -> None:
        self._close(connection)
        self.chain, self._position, self._unfinished = new_id(), None, Unfinished()

    def _close(self, connection: sqlite3.Connection) -> None:
        give_up_lease(connection.execute, self.chain, self._unfinished.first(None))


def _probe(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    insert_rows(connection.execute, [Row(0, '{"number":0}', b"")])
    connection.execute("ROLLBACK")
