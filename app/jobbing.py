"""Carrying jobs out: their parts go through the gateway as calls do, a few at a time, until each has its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.catalogue import Catalogue
from app.domain import Asked, Caller, Priority, new_id, utc_now
from app.errors import CredentialsInvalid
from app.gateway import Answer
from app.jobs import Job, JobKind, JobStore, NewJob, Part, PartEnd, PartState
from app.jobs.conclusion import Again, Halves, Verdict, concluded, resumed
from app.storage import writing

__all__ = ["JobRunner", "Watcher"]

UNDER_WAY = 8
"""Parts of one caller's jobs of one priority with one token that are calls at a time.

Enough to fill the lane, few enough to leave its queue to others.
"""
PAGE_PARTS = 16
LOOK_SECONDS = 0.5
LEASE_SECONDS = 10.0
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Gateway(Protocol):
    """Takes calls."""

    async def handle(self, asked: Asked) -> Answer: ...


class Callers(Protocol):
    """Knows who may call."""

    def resting_on(self, basis: str) -> Caller | None: ...


class Watcher(Protocol):
    """Hears how jobs get on."""

    def changed(self, job: Job) -> None:
        """Something of the job may be other than it was."""


OutcomeOf = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""What the record says of a call: its outcome; None where it was never taken in. Waits where that isn't known yet."""


@dataclass(slots=True)
class _Run:
    """A job that is being carried out here."""

    job: Job
    waiting: deque[Part] = field(default_factory=deque)
    seen: int = 0
    under_way: int = 0
    paused_until: float = 0.0

    @property
    def group(self) -> tuple[str, str, Priority]:
        return self.job.caller_id, self.job.token_id, self.job.priority


class JobRunner:
    """Carries out the jobs that no other process does.

    What is sent is on record before, by its call's ID, and that ID is in the job's rows before the call begins. So a process that takes
    over another's job finds in the record what became of each part, and sends again only what has no known end.

    Args:
        engine: the database.
        gateway: where parts go.
        callers: who may call; a part is sent in the name of its job's caller as it is then.
        catalogue: the operations.
        outcome_of: what the record says of a call.
        watchers: who hears of changes.
    """

    def __init__(  # noqa: PLR0913 - the collaborators of what is a process of its own
        self,
        *,
        engine: AsyncEngine,
        gateway: Gateway,
        callers: Callers,
        catalogue: Catalogue,
        outcome_of: OutcomeOf,
        watchers: tuple[Watcher, ...] = (),
    ) -> None:
        self.id = new_id()
        self._engine = engine
        self._gateway = gateway
        self._callers = callers
        self._catalogue = catalogue
        self._outcome_of = outcome_of
        self._watchers = watchers
        self._store = JobStore()
        self._runs: dict[str, _Run] = {}
        self._verdicts: deque[Verdict] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._leased_until = 0.0

    def wake(self) -> None:
        """There is something to do: a new job, or one to be cancelled."""
        self._leased_until = 0.0
        self._woken.set()

    async def put_down(self, connection: AsyncConnection, new: NewJob, call_id: str, *, uncertain: bool) -> tuple[Job, Part]:
        """Put a job of one call down, as one that is carried out here: its call has this ID.

        Once that is committed, `carry` has to follow.
        """
        job = await self._store.add(connection, new)
        await self._store.hold(connection, job.id, self.id, lease_until=_lease())
        (waiting,) = await self._store.parts(connection, job.id, [PartState.WAITING], after=0, limit=1)
        part = replace(waiting, call_id=call_id, uncertain=uncertain)
        await self._store.take(connection, [part])
        return await self._store.job(connection, job.id), part

    def carry(self, job: Job, part: Part, asked: Asked) -> asyncio.Task[Answer]:
        """Begin the call of such a job at once, not with the next turn: no other call may come before it. Gives its answer."""
        answering = asyncio.ensure_future(self._gateway.handle(asked))
        self._runs[job.id] = _Run(job, under_way=1)
        self._spawn(part, _conclusion(job, part, answering))
        return answering

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Carry jobs out while the context lasts. After its end no part is begun; those under way come to their end with their calls."""
        running = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def finish(self) -> None:
        """Wait for the parts under way, write down how they ended, and let others have the jobs."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        async with writing(self._engine) as connection:
            await self._settle(connection, list(self._verdicts))
            await self._store.release(connection, self.id)
        self._verdicts.clear()

    async def _keep(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._turn()
            except Exception:
                # The task's outermost edge: what has ended is kept, and written with the next turn.
                log.exception("jobs can't be carried on; trying again")
                await asyncio.sleep(RETRY_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)

    async def _turn(self) -> None:
        """One transaction: what has ended, what is new, what comes next."""
        verdicts = list(self._verdicts)
        async with writing(self._engine) as connection:
            await self._settle(connection, verdicts)
            await self._claim(connection)
            parts = await self._next(connection)
            await self._store.take(connection, parts)
            touched = await self._conclude(connection)
        for _ in verdicts:
            self._verdicts.popleft()
        for part in parts:
            self._begin(part)
        for job in touched:
            for watcher in self._watchers:
                watcher.changed(job)

    async def _claim(self, connection: AsyncConnection) -> None:
        now = time.monotonic()
        if now < self._leased_until:
            return
        for job in await self._store.claim(connection, self.id, lease_until=_lease()):
            if job.id not in self._runs:
                self._runs[job.id] = _Run(job)
                await self._take_up(connection, job)
        for run in list(self._runs.values()):
            run.job = await self._store.job(connection, run.job.id)
        self._leased_until = now + LEASE_SECONDS / 3

    async def _take_up(self, connection: AsyncConnection, job: Job) -> None:
        """Ask the record how the parts ended that a process had under way which is gone."""
        after = 0
        while parts := await self._store.parts(connection, job.id, [PartState.TAKEN], after=after, limit=PAGE_PARTS):
            after = parts[-1].seq
            for part in parts:
                self._runs[job.id].under_way += 1
                self._spawn(part, self._ask(part))

    async def _next(self, connection: AsyncConnection) -> list[Part]:
        """The parts that come next, each with the ID of its call; of a caller's jobs with one token each in turn."""
        chosen: list[Part] = []
        busy = Counter({run.group: 0 for run in self._runs.values()})
        for run in self._runs.values():
            busy[run.group] += run.under_way
        runs = deque(run for run in self._runs.values() if not run.job.cancelling and run.paused_until <= time.monotonic())
        while runs:
            run = runs.popleft()
            if busy[run.group] < UNDER_WAY and (part := await self._part(connection, run)):
                chosen.append(replace(part, call_id=new_id()))
                run.under_way += 1
                busy[run.group] += 1
                runs.append(run)
        return chosen

    async def _part(self, connection: AsyncConnection, run: _Run) -> Part | None:
        if not run.waiting and run.job.expires_at > utc_now():
            page = await self._store.parts(connection, run.job.id, [PartState.WAITING], after=run.seen, limit=PAGE_PARTS)
            run.waiting.extend(page)
            run.seen = page[-1].seq if page else run.seen
        return run.waiting.popleft() if run.waiting else None

    async def _settle(self, connection: AsyncConnection, verdicts: list[Verdict]) -> None:
        ends = [one for one in verdicts if isinstance(one, PartEnd)]
        await self._store.end(connection, ends)
        for one in verdicts:
            if isinstance(one, Halves):
                await self._store.split(connection, one.part)
            elif isinstance(one, Again):
                await self._store.end(connection, [PartEnd(part=one.part, state=PartState.WAITING, uncertain=one.part.uncertain)])

    async def _conclude(self, connection: AsyncConnection) -> list[Job]:
        """The jobs as they are now; those with nothing left to do end."""
        touched = []
        for run in list(self._runs.values()):
            if run.job.cancelling:
                run.waiting.clear()
                await self._store.drop_waiting(connection, run.job.id, PartState.CANCELLED)
            elif run.job.expires_at <= utc_now():
                await self._store.drop_waiting(connection, run.job.id, PartState.EXPIRED)
            if not run.under_way and not run.waiting and not await self._has_more(connection, run):
                touched.append(await self._store.finish(connection, run.job.id))
                del self._runs[run.job.id]
            else:
                touched.append(await self._store.job(connection, run.job.id))
        return touched

    async def _has_more(self, connection: AsyncConnection, run: _Run) -> bool:
        states = [PartState.WAITING, PartState.TAKEN]
        if not await self._store.parts(connection, run.job.id, states, after=0, limit=1):
            return False
        run.seen = 0
        return True

    def _begin(self, part: Part) -> None:
        self._spawn(part, self._send(self._runs[part.job_id].job, part))

    def _spawn(self, part: Part, work: Awaitable[Verdict]) -> None:
        task = asyncio.ensure_future(self._follow(part, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, part: Part, work: Awaitable[Verdict]) -> None:
        try:
            verdict = await work
        except Exception:
            # The task's outermost edge: by a defect nothing is known of the call; it is asked for again.
            log.exception("a part of a job failed by a defect", job=part.job_id, part=part.seq)
            verdict = Again(replace(part, uncertain=True), RETRY_SECONDS)
        run = self._runs.get(verdict.part.job_id)
        if run:
            run.under_way -= 1
            if isinstance(verdict, Again):
                run.paused_until = max(run.paused_until, time.monotonic() + verdict.pause)
        self._verdicts.append(verdict)
        self._woken.set()

    async def _send(self, job: Job, part: Part) -> Verdict:
        caller = self._callers.resting_on(job.basis)
        if caller is None:
            gone = CredentialsInvalid("the credential that the job was asked for with was withdrawn")
            return concluded(part, gone, uncertain=False)
        ends = datetime.fromisoformat(job.expires_at) - datetime.now(UTC)
        answering = self._gateway.handle(
            Asked(
                request_id=job.request_id,
                caller=caller,
                operation=self._catalogue[job.operation],
                query=f"{quote(job.parameter)}={','.join(map(str, part.ids))}".encode(),
                has_body=False,
                token_names=(job.token,),
                wait=max(1.0, ends.total_seconds()),
                arrived=time.monotonic(),
                address=job.address,
                origin=job.origin,
                trace_id=job.trace_id,
                priority=job.priority,
                call_id=part.call_id,
            )
        )
        return await _conclusion(job, part, answering)

    async def _ask(self, part: Part) -> Verdict:
        assert part.call_id is not None, "a part that is taken has a call"  # noqa: S101
        return resumed(part, await self._outcome_of(part.call_id))


async def _conclusion(job: Job, part: Part, answering: Awaitable[Answer]) -> Verdict:
    answer = await answering
    return concluded(part, answer.result, uncertain=answer.uncertain, divisible=job.kind is JobKind.BATCH)


def _lease() -> str:
    return (datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)).isoformat(timespec="microseconds")
