"""The writer: one task that commits together whatever waits to be written (group commit)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError

from app.audit.backlog import Backlog, Pending
from app.audit.estate import Estate
from app.audit.records import Record
from app.audit.spooling import Keeping, Spooling
from app.errors import AuditUnavailable

__all__ = ["GroupWriter"]

LARGEST_GROUP = 5_000
MOST_WAITING = 20_000
PATIENCE_SECONDS = 2.0
COMPANY_SECONDS = 0.005
CROWD = 2
CROWD_SECONDS = 0.003
ENOUGH = 64
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Store(Protocol):
    """Where records are kept."""

    async def append(self, records: Sequence[Record]) -> None:
        """Commit these records together, in this order; durable when it returns."""

    async def probe(self) -> None:
        """Find out whether a record could be appended now, without leaving one."""


class GroupWriter:
    """Writes records in the order they were given, as many in one commit as wait.

    After a commit that two or more were waiting for it waits for 64 records, for 3 ms at most, so that the next is larger too: in a crowd
    a commit's fixed cost, shared by a few, would be most of what a record costs. A call that is alone never waits for that.

    While the store fails it tries again, at growing intervals, and keeps what it has, in memory and in the spool; it refuses more only at
    its bound.

    Args:
        store: where records are kept.
        spool: where they are durable while the store is away; None: nowhere.
        patience: seconds that `write` waits for the store.
    """

    def __init__(self, store: Store, spool: Keeping | None = None, *, patience: float = PATIENCE_SECONDS) -> None:
        self._store = store
        self._patience = patience
        self._impatience: asyncio.TimerHandle | None = None
        self._backlog = Backlog()
        self._estate = Estate(store.append, LARGEST_GROUP)
        self._spooling = Spooling(spool, self._backlog, patience)
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()
        self._company: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._crowded = False

    @property
    def healthy(self) -> bool:
        """Whether the store takes records, and nothing is in the spool alone."""
        return not (self._backlog.stalled or self._backlog.spooled)

    @property
    def accepting(self) -> bool:
        """Whether records can be taken whose writing isn't waited for."""
        return self.healthy and len(self._backlog) < MOST_WAITING

    @property
    def set_aside(self) -> int:
        """How many records were left out, since they could never be written."""
        return self._backlog.set_aside

    def start(self) -> None:
        """Begin to write, on the loop that runs."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def take_up(self, left: Sequence[Record], begin_anew: Callable[[], Awaitable[None]]) -> None:
        """Write what a dead process left in the spool before anything else; waits as long as the patience lasts.

        Until it is done this isn't healthy, and what is given waits, in the spool where it may: so whatever of it has no end stands in a
        chain in which nothing lives.

        Args:
            left: the records, which are in the spool.
            begin_anew: gives up the chain that they are in then.
        """
        if left:
            self._estate.take_over(left, begin_anew)
            self._backlog.spooled += len(left)
            self._stall()
            self._arrived.set()
            await self._estate.wait_for(self._patience)

    async def aclose(self) -> None:
        """Write what waits, within the patience, and stop. What the store doesn't take stays in the spool; what neither takes is logged."""
        self._closing = True
        self._arrived.set()
        if self._task:
            _, unfinished = await asyncio.wait({self._task}, timeout=self._patience)
            for task in unfinished:
                task.cancel()
        if self._impatience:
            self._impatience.cancel()
        await self._leave_behind()

    async def settled(self) -> None:
        """Wait until everything that was given so far is in the store."""
        self._arrived.set()
        await self._estate.wait()
        if self._backlog:
            last = self._backlog.newest
            while last.waits:
                await self._durable(last)

    def put(self, record: Record) -> None:
        """Have a record written, without waiting for it. Never refuses: what happened must not be lost.

        It is committed with the next that is waited for, or by itself after 5 ms.
        """
        self._enqueue(record, required=False)
        if self._company is None:
            self._company = asyncio.get_running_loop().call_later(COMPANY_SECONDS, self._arrived.set)

    async def write(self, record: Record, *, required: bool, undone_by: Callable[[], Record] | None = None) -> None:
        """Have a record written, and wait until it is on disk, as long as the patience lasts.

        If the wait is cancelled the record stays, and is written.

        Args:
            record: what to write.
            required: whether what it announces must not happen unrecorded. Then the store must have it, and it is withdrawn when the
                patience ends; otherwise it stays, goes to the spool, and is written when the store is back.
            undone_by: makes the record of how it ended, where a required one was withdrawn and its commit succeeded all the same.

        Raises:
            AuditUnavailable: `required`, and it isn't on disk.
        """
        if required and len(self._backlog) >= MOST_WAITING:
            raise _unavailable()
        pending = self._enqueue(record, required=required, undone_by=undone_by)
        self._arrived.set()
        try:
            await self._durable(pending)
        except asyncio.CancelledError:
            self._backlog.release(pending)
            self._spooling.attend()
            raise
        if required and not pending.stored:
            self._withdraw(pending)
            raise _unavailable()

    def _withdraw(self, pending: Pending) -> None:
        """Its patience ended. If a commit hangs that it is part of, it may come on record all the same."""
        if pending.waits:
            self._backlog.withdraw(pending)
            self._stall()

    def _stall(self) -> None:
        """The store doesn't take records; until it does, they go to the spool at once."""
        self._backlog.stalled = True
        self._spooling.attend()

    async def _leave_behind(self) -> None:
        for pending in [one for one in self._backlog if one.required]:
            self._backlog.withdraw(pending)
        self._backlog.stalled = self._backlog.stalled or len(self._backlog) > 0
        await self._spooling.finish()
        lost = [dict(one.record.members) for one in self._backlog if not one.spooled]
        if self._backlog.spooled:
            log.warning("audit records wait in the spool for the next start", waiting=self._backlog.spooled)
        if lost:
            log.error("audit records could not be written", lost=len(lost), records=lost)

    async def _durable(self, pending: Pending) -> bool:
        """Wait until the record is on disk, as long as the patience lasts; gives whether it is."""
        heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        pending.heard_by.append(heard)
        self._be_patient()
        return await heard

    def _be_patient(self) -> None:
        if self._impatience is None:
            loop = asyncio.get_running_loop()
            self._impatience = loop.call_later(self._patience, self._lose_patience, loop)

    def _lose_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those who have waited long enough, or have their records spooled; the others wait on, with one timer for all of them.

        What isn't spooled by then the spool tells, when it has it or fails.
        """
        self._impatience, given_up = None, []
        for pending in self._backlog.overdue(loop.time() - self._patience):
            self._backlog.stalled = self._backlog.stalled or not pending.spooled
            if pending.required or pending.spooled:
                pending.tell(durable=False)
            elif not self._spooling.works:
                given_up.append(pending)
        if (since := self._backlog.patient_since) is not None:
            self._impatience = loop.call_at(since + self._patience, self._lose_patience, loop)
        if given_up:
            self._spooling.do_without(given_up, "it failed before")
        self._spooling.attend()

    def _enqueue(self, record: Record, *, required: bool, undone_by: Callable[[], Record] | None = None) -> Pending:
        pending = self._backlog.add(record, required=required, undone_by=undone_by)
        self._be_patient()
        self._spooling.attend()
        if len(self._backlog) >= ENOUGH:
            self._enough.set()
        return pending

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._has_work or not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._has_work or (self._backlog.stalled and not self._closing):
                if await self._attempt():
                    pause = FIRST_PAUSE_SECONDS
                    await self._gather_crowd()
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @property
    def _has_work(self) -> bool:
        return len(self._backlog) > 0 or not self._estate.settled

    async def _attempt(self) -> bool:
        group = self._backlog.first(LARGEST_GROUP) if self._estate.settled else []
        self._end_waiting_for_company()
        try:
            await self._commit(group)
        except Exception as error:
            # The task's outermost edge: it fails closed (`write` refuses) and tries again.
            by_defect, waiting = not isinstance(error, DBAPIError), len(self._estate) + len(self._backlog)
            log.log(logging.ERROR, "audit records can't be written", waiting=waiting, error=str(error), exc_info=by_defect)
            if by_defect and self._backlog.sift(group):
                return True
            self._estate.falter()
            self._stall()
            return False
        self._backlog.stalled = not self._estate.settled
        self._spooling.attend()
        return True

    async def _commit(self, group: list[Pending]) -> None:
        if not self._estate.settled:
            written = await self._estate.advance()
            self._backlog.spooled -= written
        elif group:
            await self._store.append([one.record for one in group])
            self._backlog.stalled = False
            self._crowded = sum(len(one.heard_by) for one in group) >= CROWD
            for record in self._backlog.note_stored(group):
                self.put(record)
        else:
            await self._store.probe()

    async def _gather_crowd(self) -> None:
        if self._crowded and len(self._backlog) < ENOUGH and not self._closing:
            self._enough.clear()
            patience = asyncio.get_running_loop().call_later(CROWD_SECONDS, self._enough.set)
            await self._enough.wait()
            patience.cancel()

    def _end_waiting_for_company(self) -> None:
        if self._company:
            self._company.cancel()
            self._company = None


def _unavailable() -> AuditUnavailable:
    return AuditUnavailable("the call can't be put on record, so it was not sent", retry_after=1)
