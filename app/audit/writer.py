"""The writer: one task that commits together whatever waits to be written (group commit)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError

from app.audit.records import Record
from app.errors import AuditUnavailable

__all__ = ["GroupWriter"]

LARGEST_GROUP = 5_000
MOST_WAITING = 20_000
PATIENCE_SECONDS = 2.0
COMPANY_SECONDS = 0.005
CROWD = 2
CROWD_SECONDS = 0.003
ENOUGH = 32
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Pending:
    record: Record
    since: float
    heard_by: list[asyncio.Future[bool]] = field(default_factory=list)

    def tell(self, *, durable: bool) -> None:
        """It is on disk; or it was withdrawn, or those who wait have waited long enough."""
        for heard in self.heard_by:
            if not heard.done():
                heard.set_result(durable)
        self.heard_by.clear()


class Store(Protocol):
    """Where records are kept."""

    async def append(self, records: Sequence[Record]) -> None:
        """Commit these records together, in this order; durable when it returns."""

    async def probe(self) -> None:
        """Find out whether a record could be appended now, without leaving one."""


class GroupWriter:
    """Writes records in the order they were given, as many in one commit as wait.

    After a commit that two or more were waiting for it lets 3 ms pass, unless enough wait already, so that the next is larger too: in a
    crowd a commit's fixed cost, shared by a few, would be most of what a record costs. A call that is alone never waits for that.

    While the store fails it tries again, at growing intervals, and keeps what it has; it refuses more only at its bound.

    Args:
        store: where records are kept.
        patience: seconds that `write` waits for durability.
    """

    def __init__(self, store: Store, *, patience: float = PATIENCE_SECONDS) -> None:
        self._store = store
        self._patience = patience
        self._impatience: asyncio.TimerHandle | None = None
        self._waiting: deque[_Pending] = deque()
        self._arrived = asyncio.Event()
        self._company: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._crowded = False
        self.healthy = True

    @property
    def accepting(self) -> bool:
        """Whether records can be taken whose writing isn't waited for."""
        return self.healthy and len(self._waiting) < MOST_WAITING

    def start(self) -> None:
        """Begin to write, on the loop that runs."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Write what waits, within the patience, and stop. What couldn't be written is logged."""
        self._closing = True
        self._arrived.set()
        if self._task:
            _, unfinished = await asyncio.wait({self._task}, timeout=self._patience)
            for task in unfinished:
                task.cancel()
        if self._waiting:
            log.error(
                "audit records could not be written", lost=len(self._waiting), records=[dict(one.record.members) for one in self._waiting]
            )

    async def settled(self) -> None:
        """Wait until everything that was given so far is on disk."""
        self._arrived.set()
        while self._waiting and not await self._durable(self._waiting[-1]):
            pass

    def put(self, record: Record) -> None:
        """Have a record written, without waiting for it. Never refuses: what happened must not be lost.

        It is committed with the next that is waited for, or by itself after 5 ms.
        """
        self._enqueue(record)
        if self._company is None:
            self._company = asyncio.get_running_loop().call_later(COMPANY_SECONDS, self._arrived.set)

    async def write(self, record: Record, *, required: bool) -> None:
        """Have a record written, and wait until it is on disk, as long as the patience lasts.

        Args:
            record: what to write.
            required: whether what it announces must not happen unrecorded. Then it is withdrawn when the patience ends;
                otherwise it stays and is written when the store is back.

        Raises:
            AuditUnavailable: `required`, and it isn't on disk.
        """
        if required and len(self._waiting) >= MOST_WAITING:
            raise _unavailable()
        pending = self._enqueue(record)
        self._arrived.set()
        if not await self._durable(pending) and required:
            # If a commit hangs that it is part of, an intent may stand on record whose call was refused.
            self.healthy = False
            with contextlib.suppress(ValueError):
                self._waiting.remove(pending)
            pending.tell(durable=False)
            raise _unavailable()

    async def _durable(self, pending: _Pending) -> bool:
        """Wait until the record is on disk, as long as the patience lasts; gives whether it is."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[bool] = loop.create_future()
        pending.heard_by.append(heard)
        if self._impatience is None:
            self._impatience = loop.call_later(self._patience, self._lose_patience, loop)
        return await heard

    def _lose_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those who have waited long enough; the others wait on, with one timer for all of them."""
        self._impatience = None
        for pending in self._waiting:
            left = pending.since + self._patience - loop.time()
            if pending.heard_by and left > 0:
                self._impatience = loop.call_later(left, self._lose_patience, loop)
                return
            pending.tell(durable=False)

    def _enqueue(self, record: Record) -> _Pending:
        pending = _Pending(record, asyncio.get_running_loop().time())
        self._waiting.append(pending)
        return pending

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._waiting or not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting or not (self.healthy or self._closing):
                if await self._commit():
                    pause = FIRST_PAUSE_SECONDS
                    await self._gather_crowd()
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _commit(self) -> bool:
        group = list(islice(self._waiting, LARGEST_GROUP))
        self._end_waiting_for_company()
        try:
            await (self._store.append([one.record for one in group]) if group else self._store.probe())
        except Exception as error:
            # The task's outermost edge: it fails closed (`write` refuses) and tries again.
            self.healthy = False
            trace = not isinstance(error, DBAPIError)
            log.log(logging.ERROR, "audit records can't be written", waiting=len(self._waiting), error=str(error), exc_info=trace)
            return False
        self.healthy = True
        written = set(map(id, group))
        while self._waiting and id(self._waiting[0]) in written:
            self._waiting.popleft()
        self._crowded = sum(len(one.heard_by) for one in group) >= CROWD
        for one in group:
            one.tell(durable=True)
        return True

    async def _gather_crowd(self) -> None:
        if self._crowded and len(self._waiting) < ENOUGH and not self._closing:
            await asyncio.sleep(CROWD_SECONDS)

    def _end_waiting_for_company(self) -> None:
        if self._company:
            self._company.cancel()
            self._company = None


def _unavailable() -> AuditUnavailable:
    return AuditUnavailable("the call can't be put on record, so it was not sent", retry_after=1)
