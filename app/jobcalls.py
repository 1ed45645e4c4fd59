"""The parts of jobs as calls: sent through the gateway, or found in the record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.audit import OutcomeMissing
from app.catalogue import Catalogue
from app.domain import Asked, Caller, Operation
from app.errors import CredentialsInvalid, GatewayError, NotFound, TokenNotGranted, UpstreamUnreachable
from app.gateway import Answer
from app.jobs import Job, JobKind, Part
from app.jobs.conclusion import Verdict, concluded, resumed

__all__ = ["Called", "PartCalls"]

LOOKS_AT_ONCE = 4
"""Fewer than the record's reader takes in: people who read it get their turn beside."""
LOOK_SECONDS = 0.5
LONGEST_LOOK_SECONDS = 8.0
PATIENCE_SECONDS = 60.0
"""How long a part's end is looked for at least, and once its job is being cancelled: a process that died is long ended then."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Called:
    """How a part's call ended: what that means for the part, and the answer as it was given."""

    verdict: Verdict
    answer: Answer


class Gateway(Protocol):
    """Takes calls."""

    async def handle(self, asked: Asked) -> Answer: ...


class Callers(Protocol):
    """Knows who may call."""

    def resting_on(self, basis: str) -> Caller | None: ...


OutcomeOf = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""What the record says of a call: its outcome; None where it was never taken in. Raises `OutcomeMissing` where that isn't known yet."""


class PartCalls:
    """Makes calls of parts.

    Args:
        gateway: where they go.
        callers: who may call; a part is sent in the name of its job's caller as it is then.
        catalogue: the operations.
        outcome_of: what the record says of a call.
    """

    def __init__(self, gateway: Gateway, callers: Callers, catalogue: Catalogue, outcome_of: OutcomeOf) -> None:
        self._gateway = gateway
        self._callers = callers
        self._catalogue = catalogue
        self._outcome_of = outcome_of
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def send(self, job: Job, part: Part, may_send: Callable[[str], bool]) -> Verdict:
        """Have a part sent; `may_send` is asked at its turn whether its job shall go on."""
        try:
            asked = self._asked(job, part, may_send)
        except GatewayError as error:
            return concluded(part, error, uncertain=False)
        return (await self.make(job, part, asked)).verdict

    async def make(self, job: Job, part: Part, asked: Asked) -> Called:
        """Make a part's call. Where an earlier attempt may have done its work, the answer says so too."""
        answer = await self._gateway.handle(asked)
        verdict = concluded(
            part, answer.result, uncertain=answer.uncertain, idempotent=asked.operation.idempotent, divisible=_is_divisible(job)
        )
        return Called(verdict, replace(answer, uncertain=answer.uncertain or part.uncertain))

    async def ask(self, job: Job, part: Part, is_halted: Callable[[str], bool]) -> Verdict:
        """Find in the record what became of a part that another process had under way.

        Waits until that is known, as long as the job lasts, but for a minute only once it is halted; then the part has failed, and is
        uncertain.

        Args:
            job: the job.
            part: its part, which has a call.
            is_halted: whether nothing more of the job shall be sent.
        """
        idempotent = job.operation in self._catalogue and self._catalogue[job.operation].idempotent
        patience, pause = _Patience(job), LOOK_SECONDS
        while not patience.ended(halted=is_halted(job.id)):
            with suppress(OutcomeMissing):
                return resumed(part, await self._look(part), idempotent=idempotent, divisible=_is_divisible(job))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK_SECONDS)
        log.error("the record doesn't tell what became of a part of a job; it has failed", job=part.job_id, call=part.call_id)
        lost = UpstreamUnreachable("the process that had this under way ended, and the record doesn't tell how", uncertain=True)
        return concluded(part, lost, uncertain=True, idempotent=False)

    async def _look(self, part: Part) -> Mapping[str, Any] | None:
        """What the record says of a part's call.

        Raises:
            OutcomeMissing: nothing yet, or it can't be read now.
        """
        assert part.call_id is not None, "a part that is taken has a call"  # noqa: S101
        async with self._looking:
            try:
                return await self._outcome_of(part.call_id)
            except SQLAlchemyError as error:
                log.exception("the record can't be asked what became of a part of a job; asking again", job=part.job_id)
                raise OutcomeMissing(part.call_id) from error

    def _asked(self, job: Job, part: Part, may_send: Callable[[str], bool]) -> Asked:
        """The call that a part is sent with: by its job's caller, with its token and its operation, as they are now.

        Raises:
            NotFound, CredentialsInvalid, TokenNotGranted: one of them is gone.
        """
        caller, ends = self._caller(job), datetime.fromisoformat(job.expires_at) - datetime.now(UTC)
        return Asked(
            request_id=job.request_id,
            caller=replace(caller, credential_id=job.credential_id),
            operation=self._operation(job),
            query=f"{quote(job.parameter)}={','.join(map(str, part.ids))}".encode(),
            has_body=False,
            token_names=(caller.by_token[job.token_id].token_name,),
            wait=max(0.0, ends.total_seconds()),
            arrived=time.monotonic(),
            address=job.address,
            origin=job.origin,
            trace_id=job.trace_id,
            priority=job.priority,
            of_job=True,
            call_id=part.call_id,
            wanted=partial(may_send, job.id),
        )

    def _caller(self, job: Job) -> Caller:
        caller = self._callers.resting_on(job.basis)
        if caller is None:
            message = "the credential that the job was asked for with was withdrawn"
            raise CredentialsInvalid(message)
        if job.token_id not in caller.by_token:
            message = "the caller has no grant for the job's token any more"
            raise TokenNotGranted(message)
        return caller

    def _operation(self, job: Job) -> Operation:
        if job.operation not in self._catalogue:
            message = f"there is no operation {job.operation} any more"
            raise NotFound(message)
        return self._catalogue[job.operation]


class _Patience:
    """How long a part's end is looked for: until its job expires or, once it is halted, for a minute; a minute at least."""

    def __init__(self, job: Job) -> None:
        began, lasts = time.monotonic(), datetime.fromisoformat(job.expires_at) - datetime.now(UTC)
        self._ends = began + max(lasts.total_seconds(), PATIENCE_SECONDS)
        self._halted = False

    def ended(self, *, halted: bool) -> bool:
        """Whether it has ended by now."""
        now = time.monotonic()
        if halted and not self._halted:
            self._halted, self._ends = True, min(self._ends, now + PATIENCE_SECONDS)
        return now > self._ends


def _is_divisible(job: Job) -> bool:
    """A call that is answered later is one call, as its caller made it."""
    return job.kind is JobKind.BATCH
