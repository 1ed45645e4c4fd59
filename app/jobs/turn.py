"""A turn of those who carry jobs out: one transaction that writes down what has ended, finds what is new and takes what comes next."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import new_id, utc_now
from app.jobs.conclusion import Halves, Verdict
from app.jobs.holding import HeldJobs
from app.jobs.job import Job, Part, PartEnd, PartState
from app.jobs.run import Lane, Run
from app.jobs.store import JobStore
from app.storage import shared_now

__all__ = ["LEASE_SECONDS", "Turn", "lease_from_now"]

LEASE_SECONDS = 10.0
PAGE_PARTS = 16
JOBS_AT_ONCE = 500
MOST_BEGUN = 32
"""Parts that a turn begins: while it writes, the record waits."""
MOST_SETTLED = 64
"""Ends of parts that a turn writes down, for the same reason."""
MOST_LOOKED_UP = 64
"""Pages that a turn reads for parts which another process had under way."""


@dataclass(slots=True)
class Turn:
    """What one transaction does. It becomes true in memory once it is committed; where it isn't, `undo`.

    It is bounded, but for the renewal of the lease; what is left over comes with the next one.

    Args:
        held: the jobs of this process.
        runs: the jobs that it holds, by their IDs, in the order in which their parts come next.
        verdicts: how parts ended; `MOST_SETTLED` at most, but at the very end.
        calls: the IDs of all calls that are under way here.

    What comes out: `begun` are the parts to be sent, `left` those that another process had taken, `changed` the jobs that are other than
    they were; `held_until` is when the lease ends (monotonic, in seconds), None where it wasn't renewed.
    """

    held: HeldJobs
    runs: dict[str, Run]
    verdicts: tuple[Verdict, ...]
    calls: AbstractSet[str] = frozenset()
    begun: list[Part] = field(default_factory=list)
    left: list[Part] = field(default_factory=list)
    changed: list[Job] = field(default_factory=list)
    held_until: float | None = None
    _pages: int = MOST_LOOKED_UP
    _store: JobStore = field(default_factory=JobStore)
    _touched: set[str] = field(default_factory=set)

    @property
    def ended(self) -> set[str]:
        """The IDs of the calls that have ended."""
        return {one.part.call_id for one in self.verdicts if one.part.call_id}

    @property
    def full(self) -> bool:
        """Whether it begins as many parts as a turn may: there may be more to begin at once."""
        return len(self.begun) >= MOST_BEGUN

    @property
    def leaves_more(self) -> bool:
        """Whether there may be more to begin, or to look up, at once."""
        return self.full or not self._pages

    def undo(self) -> None:
        """It isn't committed, or that isn't known: what is thought of the rows is forgotten."""
        for run in self.runs.values():
            run.forget()

    async def claim(self, connection: AsyncConnection, *, alone: bool) -> None:
        """Renew the lease and take what is free; what another has taken is let go."""
        now = time.monotonic()
        mine = await self.held.claim(connection, lease_until=await lease_from_now(connection), alone=alone)
        self.runs = {job_id: run for job_id, run in self.runs.items() if job_id in mine}
        for job_id, run in self.runs.items():
            cancelling, expires_at = mine[job_id]
            if (run.job.cancelling, run.job.expires_at) != mine[job_id]:
                run.job = replace(run.job, cancelling=cancelling, expires_at=expires_at)
        new = [job_id for job_id in mine if job_id not in self.runs]
        for start in range(0, len(new), JOBS_AT_ONCE):
            self._hold(await self._store.jobs(connection, new[start : start + JOBS_AT_ONCE]))
        self.held_until = now + LEASE_SECONDS

    async def claim_new(self, connection: AsyncConnection) -> None:
        """Take what is free, and see which jobs are to be cancelled; the lease of the others is left as it is."""
        self._hold(await self.held.claim_new(connection, lease_until=await lease_from_now(connection)))

    async def settle(self, connection: AsyncConnection) -> None:
        """Write down how parts ended."""
        for verdict in self.verdicts:
            part = verdict.part
            self._touched.add(part.job_id)
            if isinstance(verdict, PartEnd):
                await self.held.end(connection, verdict)
                continue
            if isinstance(verdict, Halves):
                await self.held.split(connection, part)
            else:
                await self.held.end(connection, PartEnd(part=part, state=PartState.WAITING, uncertain=part.uncertain))
            if run := self.runs.get(part.job_id):
                run.give_back()

    async def look_up(self, connection: AsyncConnection) -> None:
        """Find the parts of jobs that are new here which another process had under way, or this one lost sight of."""
        for run in self.runs.values():
            while self._pages and not run.looked_up:
                self._pages -= 1
                parts = await self._store.parts(connection, run.job.id, [PartState.TAKEN], after=run.looked, limit=PAGE_PARTS)
                self.left += [part for part in parts if part.call_id not in self.calls]
                run.look_on(parts, last=len(parts) < PAGE_PARTS)

    async def choose(self, connection: AsyncConnection, room: Callable[[Run], int]) -> None:
        """Take the parts that come next, each with the ID of its call; of the jobs of one lane each in turn.

        Args:
            connection: the transaction.
            room: how many calls a job's lane may have under way, now.
        """
        busy = self._busy()
        line = deque(run for run in self.runs.values() if run.looked_up and (run.page or run.more))
        while line and not self.full:
            run = line.popleft()
            if _is_over(run) or busy[run.lane] >= room(run):
                continue
            part = await self._next(connection, run)
            if part is None:
                continue
            part = replace(part, state=PartState.TAKEN, call_id=new_id())
            if await self.held.take(connection, part):
                self.begun.append(part)
                self._touched.add(part.job_id)
                busy[run.lane] += 1
                # To the end of the line, in the turns to come too.
                self.runs[part.job_id] = self.runs.pop(part.job_id)
                line.append(run)
        await self.held.begin(connection, {part.job_id for part in self.begun})

    async def conclude(self, connection: AsyncConnection) -> None:
        """End what waits of jobs that are over, and the jobs that have nothing left to do; read those that changed."""
        ended = self.ended
        busy = {part.job_id for part in (*self.begun, *self.left)}
        for run in [run for run in self.runs.values() if run.looked_up]:
            if _is_over(run) and (run.page or run.more):
                await self._drop(connection, run)
            if run.page or run.more or run.job.id in busy or run.calls - ended:
                continue
            self._touched.add(run.job.id)
            if await self.held.finish(connection, run.job):
                del self.runs[run.job.id]
            else:
                run.forget()
        self.changed = await self._store.jobs(connection, self._touched) if self._touched else []

    def _hold(self, jobs: Sequence[Job]) -> None:
        for job in sorted(jobs, key=lambda job: job.id):
            self.runs.setdefault(job.id, Run(job)).job = job

    def _busy(self) -> Counter[Lane]:
        """How many calls each lane has under way."""
        busy, ended = Counter[Lane](), self.ended
        for run in self.runs.values():
            busy[run.lane] += len(run.calls - ended)
        for part in self.left:
            busy[self.runs[part.job_id].lane] += 1
        return busy

    async def _next(self, connection: AsyncConnection, run: Run) -> Part | None:
        while run.more and not run.page:
            waiting = await self._store.parts(connection, run.job.id, [PartState.WAITING], after=run.seen, limit=PAGE_PARTS)
            run.turn_page(waiting)
        return run.page.popleft() if run.page else None

    async def _drop(self, connection: AsyncConnection, run: Run) -> None:
        await self.held.drop_waiting(connection, run.job.id, PartState.CANCELLED if run.job.cancelling else PartState.EXPIRED)
        run.page.clear()
        run.more = False


async def lease_from_now(connection: AsyncConnection) -> str:
    """Until when a lease lasts that is taken now, by the clock that all have in common; UTC, ISO 8601."""
    return (await shared_now(connection) + timedelta(seconds=LEASE_SECONDS)).isoformat(timespec="microseconds")


def _is_over(run: Run) -> bool:
    """Whether nothing more of it shall be sent."""
    return run.job.cancelling or run.job.expires_at <= utc_now()
