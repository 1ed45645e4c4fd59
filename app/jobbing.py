"""Carrying jobs out: their parts go through the gateway as calls do, a few at a time, until each has its end."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain import Asked, new_id
from app.errors import InternalError
from app.jobcalls import Called
from app.jobs import HeldJobs, Job, JobStore, NewJob, Part, PartState, Pauses, Run
from app.jobs.conclusion import Verdict, concluded
from app.jobs.turn import LEASE_SECONDS, MOST_SETTLED, Turn, lease_from_now
from app.storage import reading, writing

__all__ = ["JobRunner", "Watcher"]

UNDER_WAY = 8
"""Parts of one caller's jobs of one priority, for one operation with one token, that are calls at a time.

Enough to fill the lane, few enough to leave its queue to others.
"""
LOOK_SECONDS = 0.5
TURN_SECONDS = 0.05
"""Between two turns: what ends meanwhile shares a transaction."""
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Parts(Protocol):
    """Makes calls of parts."""

    async def send(self, job: Job, part: Part, may_send: Callable[[str], bool]) -> Verdict: ...

    async def make(self, job: Job, part: Part, asked: Asked) -> Called: ...

    async def ask(self, job: Job, part: Part, is_halted: Callable[[str], bool]) -> Verdict: ...


class Watcher(Protocol):
    """Hears how jobs get on."""

    def changed(self, job: Job) -> None:
        """Something of the job is other than it was; that is on disk."""


class JobRunner:
    """Carries out the jobs that no other process does.

    What is sent is on record before, by its call's ID, and that ID is in the job's rows before the call begins. So a process that takes
    over another's job finds in the record what became of each part, and sends again only what has no known end. A process sends for a job
    only while its lease on it lasts, so that one that was held up doesn't go on beside the one that has taken over.

    Args:
        engine: the database.
        parts: makes calls of parts.
        alone: no other process serves from this database, so that whoever else holds a job is dead.
        watchers: who hears of changes.
    """

    def __init__(self, engine: AsyncEngine, parts: Parts, *, alone: bool, watchers: tuple[Watcher, ...] = ()) -> None:
        self.id = new_id()
        self._engine = engine
        self._parts = parts
        self._alone = alone
        self._watchers = watchers
        self._store = JobStore()
        self._held = HeldJobs(self.id)
        self._runs: dict[str, Run] = {}
        self._carried: dict[str, Run] = {}
        self._halted: set[str] = set()
        self._pauses = Pauses()
        self._verdicts: deque[Verdict] = deque()
        self._calls: set[str] = set()
        self._put_down: dict[str, float] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()
        self._resting = False
        self._due = False
        self._news = False
        self._held_until = 0.0
        self._looked_at = 0.0

    def wake(self) -> None:
        """There is something to do: a new job, or one to be cancelled."""
        self._news = True
        self._woken.set()

    @contextmanager
    def expecting(self, call_id: str) -> Iterator[None]:
        """While a job of one call is put down and carried, nobody here looks for its call, of this ID, in the record."""
        self._calls.add(call_id)
        try:
            yield
        finally:
            self._put_down.pop(call_id, None)
            if not any(call_id in run.calls for run in self._runs.values()):
                self._calls.discard(call_id)

    async def put_down(self, connection: AsyncConnection, new: NewJob, call_id: str, *, uncertain: bool) -> tuple[Job, Part]:
        """Put a job of one call down, as one that is carried out here. Once that is committed, `carry` has to follow.

        Args:
            connection: the transaction.
            new: the job.
            call_id: its call's, which is expected.
            uncertain: whether an earlier attempt may have done the call's work.
        """
        self._put_down[call_id] = time.monotonic() + LEASE_SECONDS
        job = await self._store.add(connection, new)
        await self._held.hold(connection, job, lease_until=await lease_from_now(connection))
        (waiting,) = await self._store.parts(connection, job.id, [PartState.WAITING], after=0, limit=1)
        part = replace(waiting, state=PartState.TAKEN, call_id=call_id, uncertain=uncertain)
        await self._held.take(connection, part)
        await self._held.begin(connection, [job.id])
        return await self._store.job(connection, job.id), part

    def carry(self, job: Job, part: Part, asked: Asked) -> asyncio.Task[Called]:
        """Begin the call of such a job at once, not with the next turn: no other call may come before it."""
        making = asyncio.ensure_future(self._parts.make(job, part, replace(asked, wanted=partial(self._may_send, job.id))))
        # A turn that is under way doesn't know of it, and may have found that another process has it, if this one was held up meanwhile.
        run = Run(job, more=False, looked_up=True, held_until=self._put_down[part.call_id or ""])
        self._runs[job.id] = self._carried[job.id] = run
        self._spawn(self._sending, part, partial(_verdict, making))
        return making

    def cancel(self, job_id: str) -> None:
        """Send nothing more of a job, from this moment on; that it is to be cancelled is on disk already."""
        if job_id in self._runs:
            # Beside the run, which a turn that is under way may yet see as it was.
            self._halted.add(job_id)
        self.wake()

    def rest(self) -> None:
        """Begin no part any more; those under way come to their end."""
        self._resting = True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Carry jobs out while the context lasts. After its end no part is begun; those under way come to their end with their calls."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            self.rest()
            self._stopped.set()
            self._woken.set()
            await keeping
            await _cancelled(self._asking)

    async def finish(self) -> None:
        """Wait for the parts under way, write down how they ended, and let others have the jobs.

        Where that can't be written it is no loss: whoever takes the jobs up finds it in the record.
        """
        if self._sending:
            await asyncio.wait(self._sending)
        turn = Turn(self._held, {}, tuple(self._verdicts))
        try:
            async with writing(self._engine) as connection:
                await turn.settle(connection)
                await self._held.release(connection)
        except Exception:
            # The outermost edge of the runner: what is closed after it, the record's writer among it, must be closed.
            log.exception("how the last parts of jobs ended can't be written; the record has it")

    async def _keep(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                await self._turn()
            except Exception:
                # The task's outermost edge: what has ended is kept, and written with the next turn.
                self._due = True
                log.exception("jobs can't be carried on; trying again")
                await _wait(self._stopped, RETRY_SECONDS)
            else:
                await _wait(self._stopped, TURN_SECONDS)
                await _wait(self._woken, LOOK_SECONDS)

    async def _turn(self) -> None:
        due, news = self._due or time.monotonic() >= self._held_until - LEASE_SECONDS * 2 / 3, self._news or self._may_have_missed()
        self._due = self._news = False
        if not (self._runs or self._verdicts) and not ((due or news) and await self._find_any()):
            return
        turn = Turn(self._held, dict(self._runs), tuple(islice(self._verdicts, MOST_SETTLED)), self._calls)
        self._carried.clear()
        try:
            async with writing(self._engine) as connection:
                if due:
                    await turn.claim(connection, alone=self._alone and not self._held_until)
                elif news:
                    await turn.claim_new(connection)
                await turn.settle(connection)
                await turn.look_up(connection)
                await turn.choose(connection, self._room)
                await turn.conclude(connection)
        except BaseException:
            turn.undo()
            raise
        self._adopt(turn)
        if turn.leaves_more or self._verdicts:
            self._woken.set()
        for job in turn.changed:
            for watcher in self._watchers:
                watcher.changed(job)

    def _may_have_missed(self) -> bool:
        """Whether it is time to see what other processes, which wake nobody here, were told: of new jobs, and of those to be cancelled."""
        now = time.monotonic()
        if self._alone or now < self._looked_at + LOOK_SECONDS:
            return False
        self._looked_at = now
        return True

    async def _find_any(self) -> bool:
        """Whether there is a job to be carried out. While there is none nobody waits for the lock on writing because of us."""
        now = time.monotonic()
        async with reading(self._engine) as connection:
            found = await self._held.any(connection, alone=self._alone)
        self._held_until = self._held_until if found else now + LEASE_SECONDS
        return found

    def _room(self, run: Run) -> int:
        """How many calls a job's lane may have under way, now."""
        return 0 if self._resting else self._pauses.room(run.lane, time.monotonic(), UNDER_WAY)

    def _adopt(self, turn: Turn) -> None:
        """The transaction is committed: what it did holds in memory too."""
        self._runs = turn.runs | self._carried
        self._halted &= self._runs.keys()
        if turn.held_until is not None:
            self._held_until = turn.held_until
            for run in turn.runs.values():
                run.held_until = math.inf
        for _ in turn.verdicts:
            self._verdicts.popleft()
        ended = turn.ended
        self._calls -= ended
        for run in self._runs.values():
            run.calls -= ended
        for part in turn.left:
            self._spawn(self._asking, part, partial(self._parts.ask, self._runs[part.job_id].job, part, self._is_halted))
        for part in turn.begun:
            self._spawn(self._sending, part, partial(self._parts.send, self._runs[part.job_id].job, part, self._may_send))

    def _spawn(self, tasks: set[asyncio.Task[None]], part: Part, work: Callable[[], Awaitable[Verdict]]) -> None:
        assert part.call_id is not None, "a part that is taken has a call"  # noqa: S101
        run = self._runs[part.job_id]
        run.calls.add(part.call_id)
        self._calls.add(part.call_id)
        task = asyncio.ensure_future(self._follow(run, part, work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _follow(self, run: Run, part: Part, work: Callable[[], Awaitable[Verdict]]) -> None:
        try:
            verdict = await work()
        except Exception:
            # The task's outermost edge: by a defect nothing is known of the call, so it isn't made again.
            log.exception("a part of a job failed by a defect", job=part.job_id, part=part.seq)
            verdict = concluded(part, InternalError("the gateway failed while it carried the part out"), uncertain=True)
        self._verdicts.append(self._pauses.heed(run, verdict, time.monotonic()))
        self._woken.set()

    def _may_send(self, job_id: str) -> bool:
        """Whether a call of the job that waits may be sent: the job is this process's beyond doubt, and isn't to be cancelled."""
        return not self._is_halted(job_id) and time.monotonic() < min(self._held_until, self._runs[job_id].held_until)

    def _is_halted(self, job_id: str) -> bool:
        """Whether nothing more of a job shall be sent here: it is to be cancelled, or another process has it."""
        run = self._runs.get(job_id)
        return job_id in self._halted or run is None or run.job.cancelling


async def _verdict(making: Awaitable[Called]) -> Verdict:
    return (await making).verdict


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, no longer than that."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """Have these tasks end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
