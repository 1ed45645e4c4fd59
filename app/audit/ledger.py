"""Keeping the process's own chain: the database's thread appends what is given, the lease is renewed, and who listens hears of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.audit.chain import Head, Row
from app.audit.leases import HEARTBEAT_SECONDS, LEASE_SECONDS
from app.audit.own_chain import OwnChain, Written
from app.audit.records import Record
from app.audit.seals import Seal, Signer, Trusted
from app.audit.storing import Condition, transaction
from app.background import kept_running
from app.storage import Connection, DatabaseThread, Dialect

__all__ = ["Ledger", "Listener"]

CHECKPOINT_SECONDS = 50.0
CLOSE_SECONDS = 5.0
PROBE_BYTES = 8_192

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Hears, on the loop, of what has become durable."""

    def appended(self, rows: Sequence[Row]) -> None:
        """These records are on disk."""

    def sealed(self, seals: Sequence[Seal]) -> None:
        """These checkpoints are on disk."""


class Ledger:
    """Keeps the chain of one process, and its lease. It begins with the first record that there is to write.

    Args:
        thread: does the work on the database.
        signer: signs the checkpoints: one every 1,000 records, one a minute while there is something to cover, one at the end.
        listeners: who hears of it.

    `given_up`: the chain that was this process's before it began anew; empty where it didn't.
    """

    def __init__(self, thread: DatabaseThread, signer: Signer, listeners: Sequence[Listener] = ()) -> None:
        self._own = OwnChain(signer)
        self._thread = thread
        self._listeners = listeners
        self._uncovered_since: float | None = None
        self._renewed_at, self._held_since = math.inf, -math.inf
        self._losses = 0
        self.given_up = ""

    @property
    def chain(self) -> str:
        """The chain's ID."""
        return self._own.id

    @property
    def trusted(self) -> Trusted:
        """Whose signatures are the gateway's own."""
        return self._own.trusted

    def held_since(self, moment: float) -> bool:
        """Whether the lease has lasted without a break since then (monotonic, in seconds).

        Where it hasn't, others may have taken this process for dead, and have ended on record what it had under way.
        """
        return self._held_since <= moment and time.monotonic() < self._renewed_at + LEASE_SECONDS

    async def append(self, records: Sequence[Record]) -> None:
        """Commit these records, in this order; durable when it returns. A record that is there already isn't written twice.

        Raises:
            SQLAlchemyError: they are not there, or that isn't known; the next attempt finds out.
        """
        await self._commit(lambda connection: self._own.append(connection, records))

    async def append_if(self, condition: Condition, records: Sequence[Record]) -> bool:
        """Commit these records if the condition holds, in one transaction with what it writes; gives whether it does.

        Raises:
            SQLAlchemyError: as `append`.
        """
        return await self._commit(lambda connection: self._own.append(connection, records, condition))

    async def seal_if(self, condition: Condition, head: Head | None) -> bool:
        """Seal another chain at its end if the condition holds, in one transaction with what it writes; gives whether it does.

        It doesn't where the chain has grown meanwhile: its process lives.

        Args:
            condition: what must hold.
            head: where that chain stands; None where nothing is to be sealed.

        Raises:
            SQLAlchemyError: it isn't on disk, or that isn't known.
        """
        return await self._commit(lambda connection: self._own.seal_other(connection, condition, head))

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
        await self._commit(self._own.seal)
        self._uncovered_since = None

    async def begin_anew(self) -> None:
        """Where intents have no outcome here, give this chain up, for recovery to close them, and go on in a new one.

        To be called when what a dead process left in the spool is written, before anything else is: its calls are nobody's any more.

        Raises:
            SQLAlchemyError: that can't be written; the chain goes on, and this may be tried again.
        """
        before = self.chain
        await self._commit(self._own.begin_anew)
        if before != self.chain:
            self.given_up = before

    async def aclose(self) -> None:
        """Seal the chain's end and give up the lease. What can't be written within 5 s, or has no outcome, the next process sees to."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.checkpoint()
                await self._thread.run(self._own.close)
        except (SQLAlchemyError, TimeoutError) as error:
            log.error("the audit chain's end can't be sealed", chain=self.chain, error=str(error))  # noqa: TRY400 - the database's word is enough

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Renew the lease and seal what is due, while the context lasts."""
        self._renewed_at = time.monotonic()
        return kept_running(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            # Each by itself: a checkpoint that fails mustn't have others take this process for dead.
            for beat in (self._renew, self._checkpoint_if_due):
                try:
                    await beat()
                except Exception:
                    # The task's outermost edge: what couldn't be renewed or sealed is so at the next beat.
                    log.exception("the audit chain's lease or checkpoint can't be written")

    async def _checkpoint_if_due(self) -> None:
        if self._uncovered_since is not None and time.monotonic() - self._uncovered_since >= CHECKPOINT_SECONDS:
            await self.checkpoint()

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        await self._thread.run(self._own.renew_lease)
        if asked_at >= self._renewed_at + LEASE_SECONDS:
            log.warning("the lease of the audit chain had run out; what waited then isn't sent", chain=self.chain)
            self._held_since = time.monotonic()
        self._note_losses()
        self._renewed_at = asked_at

    def _note_losses(self) -> None:
        """Where another process ended the chain, it may have ended on record what was under way."""
        if self._own.losses != self._losses:
            self._losses, self._held_since = self._own.losses, time.monotonic()

    async def _commit(self, work: Callable[[Connection], Written | None]) -> bool:
        written = await self._thread.run(work)
        self._note_losses()
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


def _probe(connection: Connection) -> None:
    """Commit as much as a record takes. What is rolled back needs no room, and would succeed on a full disk."""
    with transaction(connection):
        probe = (f'{{"number":0,"room":"{"-" * PROBE_BYTES}"}}', bytes(32))
        connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (0, ?, ?)", probe)
        connection.execute("DELETE FROM audit_records WHERE number = 0")
        if connection.dialect is Dialect.SQLITE:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {(version + 1) % 1_000_000}")
