"""Calls that are answered later: taken in as jobs of one call, and in their lane at once."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import Asked, Call, new_id
from app.gateway import Answer
from app.jobcalls import Called
from app.jobs import Job, JobKind, NewJob, Part
from app.jobs.conclusion import Again
from app.jobs.idempotency import KeptAnswer, Key
from app.repeating import Add, Made, Repeats

__all__ = ["Deferral", "Deferred"]

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Deferred:
    """A call that goes on whether or not anybody waits for it."""

    job: Job
    making: asyncio.Future[Called]

    async def answer_within(self, seconds: float) -> Answer | None:
        """Its answer, if it comes in this time and is its last: a call that can't be made now is tried again."""
        await asyncio.wait({self.making}, timeout=seconds)
        if not self.making.done() or isinstance(self.making.result().verdict, Again):
            return None
        return self.making.result().answer


class Gateway(Protocol):
    """Tells what would become of a request."""

    async def admit(self, asked: Asked) -> Call | Answer: ...


class Intake(Protocol):
    """Takes jobs in."""

    async def take(self, new: NewJob, key: Key | None, add: Add | None = None) -> KeptAnswer | Made: ...


class Runner(Protocol):
    """Carries calls out."""

    async def put_down(self, connection: AsyncConnection, new: NewJob, call_id: str, *, uncertain: bool) -> tuple[Job, Part]: ...

    def carry(self, job: Job, part: Part, asked: Asked) -> asyncio.Future[Called]: ...

    def expecting(self, call_id: str) -> AbstractContextManager[None]: ...


class Deferral:
    """Takes calls in that are answered later.

    Args:
        intake: takes jobs in.
        repeats: knows the jobs of earlier requests with the same key.
        gateway: refuses what can't be called.
        runner: carries the calls out.
    """

    def __init__(self, intake: Intake, repeats: Repeats, gateway: Gateway, runner: Runner) -> None:
        self._intake = intake
        self._repeats = repeats
        self._gateway = gateway
        self._runner = runner

    async def take(self, asked: Asked, key: Key | None) -> Deferred | Answer | KeptAnswer | Made:
        """Take a call in: its job is on disk when this returns, and its call is put on record, and then in its lane.

        Returns:
            The call; or the refusal that it would get without a job, on record; or what the first request with its key was given.

        Raises:
            IdempotencyMismatch, Conflict, UpstreamUnreachable, NotFound: of the first request with its key.
            AuditUnavailable: it isn't on record or on disk, and nothing was sent.
            JobQuotaExceeded: too much of the caller's waits.
        """
        first = await self._repeats.first(key, asked.operation) if key else None
        if first:
            return first
        asked = replace(asked, wait=LIFETIME.total_seconds(), call_id=new_id(), of_job=True)
        call = await self._gateway.admit(asked)
        if isinstance(call, Answer):
            return call
        new, parts = _job_of(call), list[Part]()

        async def add(connection: AsyncConnection, uncertain: bool) -> Job:  # noqa: FBT001 - as `Repeats` calls it
            job, part = await self._runner.put_down(connection, new, call.id, uncertain=uncertain)
            parts.append(part)
            return job

        with self._runner.expecting(call.id):
            made = await self._intake.take(new, key, add)
            if isinstance(made, KeptAnswer) or made.repeated:
                return made
            return Deferred(made.job, self._runner.carry(made.job, parts[-1], asked))


def _job_of(call: Call) -> NewJob:
    return NewJob(
        kind=JobKind.CALL,
        caller=call.caller,
        operation=call.operation,
        parameter=call.parameter,
        ids=call.ids,
        token=call.token,
        priority=call.priority,
        request_id=call.request_id,
        expires_at=(datetime.now(UTC) + LIFETIME).isoformat(timespec="microseconds"),
        trace_id=call.trace_id,
        address=call.address,
        origin=call.origin,
    )
