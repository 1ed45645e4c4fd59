"""Repeated requests: whoever asks again with the same key is given what the first request was given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit import OutcomeMissing
from app.background import kept_running
from app.domain import Asked, Operation, new_id
from app.errors import Conflict, GatewayError, UpstreamUnreachable
from app.gateway import Answer
from app.jobs import Job, JobStore
from app.jobs.idempotency import KeptAnswer, Key, KeyStore, Use, is_kept, left_on_record
from app.jobs.refusing import or_refused, unavailable
from app.storage import reading, writing

__all__ = ["Add", "Made", "Repeats"]

SWEEP_SECONDS = 600.0
SWEPT_AT_ONCE = 500
SWEEPING_PAUSE_SECONDS = 0.05
RETRY_AFTER_SECONDS = 1.0
UNRECORDED_SECONDS = 10.0
"""How long a call may take from its key's row to the record; then another process, which saw nothing of it there, may make it anew."""
KEEPING_SECONDS = 2.0
"""How long an answer that is there waits to be kept for repetitions: until it is, the record has it."""
OK = 200
UNSTORED = "the request can't be put down now, and nothing was sent"

T = TypeVar("T")

log = structlog.get_logger(__name__)

Add = Callable[[AsyncConnection, bool], Awaitable[Job]]
"""Puts a job down; told whether an earlier attempt at it may have done its work, or a part."""
Rendered = Callable[[Answer], KeptAnswer]
"""An answer as it is given."""


@dataclass(frozen=True, slots=True)
class Made:
    """A job, and whether it was made for an earlier request with the same key."""

    job: Job
    repeated: bool


@dataclass(frozen=True, slots=True)
class _Free:
    """The key stands for nothing that counts. `use`: what it stood for. `uncertain`: that may have done its work, or a part."""

    use: Use | None = None
    uncertain: bool = False


class _Claim:
    """A call's right to be sent: it has it if it comes on record in time, while its key keeps all others from making the call."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + UNRECORDED_SECONDS
        self._holds = False

    def confirm(self) -> None:
        """The call is on record, where others see it: from now on they leave it alone, however long it takes."""
        self._holds = time.monotonic() < self._ends

    def holds(self) -> bool:
        """Whether it may be sent."""
        return self._holds


class Gateway(Protocol):
    """Takes calls."""

    async def handle(self, asked: Asked) -> Answer: ...

    def is_waiting(self, call_id: str) -> bool: ...


class Repeats:
    """Gives repeated requests what the first was given.

    A key is on disk, with the ID of its call or its job, before anything is sent. So after a death the record tells what became of the
    call: its answer is given again; what was never sent is sent; and what may have been sent, without a known end, is sent again where the
    operation is idempotent, marked as uncertain, as the gateway's own retries are.

    Args:
        engine: the database.
        gateway: where calls go.
        outcome_of: how a call ended, by the record; None where it was never taken in; raises `OutcomeMissing` where it has no end yet.
        alone: no other process serves from this database, so that a call which neither runs here nor is on record will never be.
    """

    def __init__(
        self, engine: AsyncEngine, gateway: Gateway, outcome_of: Callable[[str], Awaitable[Mapping[str, Any] | None]], *, alone: bool
    ) -> None:
        self._engine = engine
        self._gateway = gateway
        self._outcome_of = outcome_of
        self._alone = alone
        self._keys = KeyStore()
        self._jobs = JobStore()
        self._running: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def first(self, key: Key, operation: Operation | None = None) -> KeptAnswer | Made | None:
        """What the first request with the key was given; None where there was none that counts.

        Raises:
            IdempotencyMismatch: the key stands for another request.
            Conflict: the first request with it still runs.
            UpstreamUnreachable: its end isn't known, and the operation isn't one that may be sent again.
            NotFound: its job was removed.
            AuditUnavailable: it can't be found out now.
        """
        found = await self._found(key, operation)
        return None if isinstance(found, _Free) else found

    async def job(self, key: Key | None, add: Add, operation: Operation | None = None) -> KeptAnswer | Made:
        """The job that the first request with the key made; without a key, or a first request, the one that is added now.

        Raises:
            IdempotencyMismatch, Conflict, UpstreamUnreachable, NotFound, AuditUnavailable: as `first`; what isn't on disk isn't sent.
        """
        while True:
            found = await self._found(key, operation) if key else _Free()
            if not isinstance(found, _Free):
                return found
            async with or_refused(writing(self._engine), UNSTORED) as connection:
                if key and await self._keys.use(connection, key) != found.use:
                    continue
                job = await add(connection, found.uncertain)
                if key:
                    await self._keys.take(connection, key, Use(job_id=job.id))
            return Made(job, repeated=False)

    async def call(self, key: Key, asked: Asked, rendered: Rendered) -> KeptAnswer | Made | Answer:
        """What the first request with the key was given; the first itself is made.

        If its caller hangs up, a call that waits leaves its queue; of one that was sent, the answer is kept for who asks again.

        Raises:
            IdempotencyMismatch, Conflict, UpstreamUnreachable, NotFound, AuditUnavailable: as `first`; what isn't on disk isn't sent.
        """
        while isinstance(found := await self._found(key, asked.operation), _Free):
            use, claim = Use(call_id=new_id(), uncertain=found.uncertain), _Claim()
            if await self._taken(key, found, use):
                claimed = replace(asked, call_id=use.call_id, on_record=claim.confirm, wanted=claim.holds)
                return await self._made(key, use, claimed, rendered)
        return found

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Remove keys whose time is over, a few at a time, while the context lasts."""
        return kept_running(self._keep())

    async def finish(self) -> None:
        """Wait until the answers to the calls under way are kept."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _found(self, key: Key, operation: Operation | None) -> KeptAnswer | Made | _Free:
        async with or_refused(reading(self._engine), UNSTORED) as connection:
            use = await self._keys.use(connection, key)
            if use is None:
                return _Free()
            if use.answer:
                return use.answer
            if use.job_id:
                return Made(await self._jobs.job(connection, use.job_id), repeated=True)
        return await self._left(key, use, operation)

    async def _left(self, key: Key, use: Use, operation: Operation | None) -> KeptAnswer | _Free:
        """What became of a call whose answer isn't kept. Of one that runs the record may not say yet that it was taken in."""
        call_id = use.call_id or ""
        if call_id in self._running:
            raise _still_running()
        try:
            outcome = await self._outcome_of(call_id)
        except OutcomeMissing:
            raise _still_running() from None
        except SQLAlchemyError as error:
            raise unavailable(error, UNSTORED) from error
        if outcome is None:
            if not self._alone and use.age < UNRECORDED_SECONDS:
                raise _still_running()
            return _Free(use, use.uncertain)
        answer = left_on_record(outcome, uncertain=use.uncertain)
        if answer:
            await self._keep_soon(key, use, answer)
            return answer
        if outcome["uncertain"] and not (operation and operation.idempotent):
            message = "the first request with this key may have done its work, and how it ended isn't known; it isn't sent again"
            raise UpstreamUnreachable(message, uncertain=True)
        return _Free(use, use.uncertain or outcome["uncertain"])

    async def _taken(self, key: Key, found: _Free, use: Use) -> bool:
        """Whether the key stands for this use now; not, if another request was quicker."""
        try:
            async with or_refused(writing(self._engine), UNSTORED) as connection:
                if await self._keys.use(connection, key) != found.use:
                    return False
                await self._keys.take(connection, key, use)
                # Before the commit: from then on others see the call, and must see that it runs.
                self._running.add(use.call_id or "")
        except BaseException:
            # It doesn't run after all, whether or not the commit was carried through: whoever asks again makes the call anew.
            self._running.discard(use.call_id or "")
            raise
        return True

    async def _made(self, key: Key, use: Use, asked: Asked, rendered: Rendered) -> Answer:
        making = self._begun(self._make(key, use, asked, rendered))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if self._gateway.is_waiting(use.call_id or ""):
                making.cancel()
            raise

    async def _make(self, key: Key, use: Use, asked: Asked, rendered: Rendered) -> Answer:
        try:
            first = await self._gateway.handle(asked)
            answer = replace(first, uncertain=first.uncertain or use.uncertain)
            await self._keep_soon(key, use, rendered(answer) if _is_kept(first) else None)
        except asyncio.CancelledError:
            await self._write(key, use, None)
            raise
        finally:
            self._running.discard(use.call_id or "")
        return answer

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_soon(self, key: Key, use: Use, answer: KeptAnswer | None) -> None:
        """Keep the answer; a database that is slow to take it holds nobody up, and takes it when it can."""
        keeping = self._begun(self._write(key, use, answer))
        await asyncio.wait({keeping}, timeout=KEEPING_SECONDS)
        if keeping.done():
            keeping.result()

    async def _write(self, key: Key, use: Use, answer: KeptAnswer | None) -> None:
        try:
            async with writing(self._engine) as connection:
                if answer:
                    await self._keys.keep(connection, key, use, answer)
                elif not use.uncertain:
                    await self._keys.forget(connection, key, use)
        except SQLAlchemyError:
            # The call has its end, which its caller is told all the same. Who asks again is told by the record.
            log.exception("the answer can't be kept for repetitions of its request", call_id=use.call_id)

    async def _keep(self) -> None:
        while True:
            try:
                await self._sweep()
            except Exception:
                # The task's outermost edge: keys that are too old count for nothing anyway.
                log.exception("old idempotency keys can't be removed; trying again in ten minutes")
            await asyncio.sleep(SWEEP_SECONDS)

    async def _sweep(self) -> None:
        swept = SWEPT_AT_ONCE
        while swept == SWEPT_AT_ONCE:
            async with writing(self._engine) as connection:
                swept = await self._keys.sweep(connection, most=SWEPT_AT_ONCE)
            await asyncio.sleep(SWEEPING_PAUSE_SECONDS)


def _is_kept(answer: Answer) -> bool:
    status = answer.result.http_status if isinstance(answer.result, GatewayError) else OK
    uncertain = answer.uncertain or (isinstance(answer.result, GatewayError) and answer.result.uncertain)
    return is_kept(status, attempts=answer.journey.attempts if answer.journey else 0, uncertain=uncertain)


def _still_running() -> Conflict:
    return Conflict("the first request with this Idempotency-Key still runs", retry_after=RETRY_AFTER_SECONDS)
