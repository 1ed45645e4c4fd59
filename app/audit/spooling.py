"""Bringing records that the store doesn't take to the spool, and emptying it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from app.audit.backlog import Backlog, Pending
from app.audit.canonical import canonical
from app.audit.records import Record

__all__ = ["Keeping", "Spooling"]

LARGEST_GROUP = 5_000
PAUSE_SECONDS = 1.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Keeping(Protocol):
    """The spool. Its work blocks."""

    @property
    def holds_any(self) -> bool:
        """Whether there is a record in it."""

    def keep(self, bodies: Sequence[bytes]) -> None:
        """Add records; durable when it returns. Raises OSError."""

    def clear(self) -> None:
        """Empty it. Raises OSError."""


class Spooling:
    """While the store is away it has records durable in the spool, up to 5,000 at once; when all are on record it empties it.

    A spool that fails keeps nobody: the records go into the log, those who wait are told, and it is tried again.

    Args:
        spool: the spool; without one nothing is durable before the store has it.
        backlog: what waits.
        patience: seconds that a write to the spool may take before those who wait for it are told.
    """

    def __init__(self, spool: Keeping | None, backlog: Backlog, patience: float) -> None:
        self._spool = spool
        self._backlog = backlog
        self._patience = patience
        self._task: asyncio.Task[None] | None = None
        self.works = spool is not None

    def attend(self) -> None:
        """See to what there is to do, in the background; one thing after the other, so that nothing is emptied that was just filled."""
        if self._spool and self._task is None and (self._is_due or self._is_idle(self._spool)):
            self._task = asyncio.get_running_loop().create_task(self._run(self._spool))

    async def finish(self) -> None:
        """Have everything that waits in the spool, and end, within the patience."""
        self.attend()
        if self._task:
            _, unfinished = await asyncio.wait({self._task}, timeout=self._patience)
            for task in unfinished:
                task.cancel()

    def do_without(self, group: Sequence[Pending], error: str) -> None:
        """Go on: what happened has happened, and its answer isn't held back. It stays in memory and stands, once, in the log."""
        self.works = False
        unlogged = [one for one in group if not one.logged]
        if unlogged:
            records = [dict(one.record.members) for one in unlogged]
            log.error("audit records can't be spooled; they are in memory and in this line alone", error=error, records=records)
        for one in group:
            one.logged = True
            one.tell(durable=False)

    @property
    def _is_due(self) -> bool:
        return self._backlog.stalled and self._backlog.has_unspooled

    def _is_idle(self, spool: Keeping) -> bool:
        return spool.holds_any and not self._backlog.spooled

    async def _run(self, spool: Keeping) -> None:
        try:
            while self._is_due or self._is_idle(spool):
                if not await (self._keep(spool) if self._is_due else self._clear(spool)):
                    await asyncio.sleep(PAUSE_SECONDS)
        except Exception:
            # The task's outermost edge: nobody is kept waiting by a defect; the next record has it tried again.
            log.exception("audit records can't be spooled, by a defect")
            self.do_without(self._backlog.unspooled(), "a defect")
        finally:
            self._task = None

    async def _keep(self, spool: Keeping) -> bool:
        group = self._backlog.unspooled(LARGEST_GROUP)
        try:
            hopeless = await self._patiently(asyncio.to_thread(_encode_and_keep, spool, [one.record for one in group]))
        except OSError as error:
            self.do_without(self._backlog.unspooled(), str(error))
            return False
        self.works = True
        self._backlog.leave_out([group[place] for place in hopeless])
        self._backlog.note_spooled([one for place, one in enumerate(group) if place not in hopeless])
        return True

    async def _clear(self, spool: Keeping) -> bool:
        try:
            await self._patiently(asyncio.to_thread(spool.clear))
        except OSError as error:
            # All that it holds is on record: at the next start it is found there.
            log.error("the spool can't be emptied", error=str(error))  # noqa: TRY400 - the system's word is enough
            return False
        self.works = True
        return True

    async def _patiently(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the spool; where it takes too long those who wait for it are told."""
        working = asyncio.create_task(work)
        done, _ = await asyncio.wait({working}, timeout=self._patience)
        if not done:
            self.do_without(self._backlog.unspooled() if self._backlog.stalled else [], "it takes too long")
        return await working


def _encode_and_keep(spool: Keeping, records: Sequence[Record]) -> set[int]:
    """Have these in the spool; gives the places of those that have no canonical form. Not for the loop: it takes long, and blocks."""
    bodies, hopeless = [], set()
    for place, record in enumerate(records):
        try:
            bodies.append(canonical(record.members))
        except TypeError:
            hopeless.add(place)
    if bodies:
        spool.keep(bodies)
    return hopeless
