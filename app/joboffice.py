"""Where jobs are asked for, looked at and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.callers import check_ids
from app.catalogue import Catalogue
from app.domain import Actor, Caller, CredentialKind, Operation, Parameter, Priority, TokenRef
from app.errors import AuditUnavailable, Conflict, NotFound, ParameterMissing, ParameterUnknown
from app.jobintake import JobIntake
from app.jobs import FAILING, IdResult, Job, JobState, JobStore, NewJob, Part, PartState, outlook, results_of
from app.jobs.idempotency import Key
from app.jobs.refusing import or_refused
from app.repeating import Made
from app.storage import reading, writing

__all__ = ["BatchAsked", "JobOffice", "JobSeen"]

LIFETIME = timedelta(hours=24)
SHOWN_FAILURES = 100
PAGE_PARTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAsked:
    """Many calls of one operation, as a caller asks for them. `token` is a token's name, None for the caller's default."""

    operation: str
    parameter: str
    ids: Sequence[int]
    token: str | None = None
    priority: Priority = Priority.BATCH


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job as it is now; `ends_in` is when it will end if things stay as they are, in seconds: None where it has, or nobody can tell.

    `failures` are the first 100 of the IDs that failed. `repeated`: it was made for an earlier request with the same key.
    """

    job: Job
    ends_in: float | None = None
    failures: tuple[IdResult, ...] = ()
    repeated: bool = False


class Tokens(Protocol):
    """Chooses tokens."""

    def choose(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef: ...


class Lanes(Protocol):
    """Knows how long sends take."""

    def wait_behind_interactive(self, token_id: str, operation: str, sends: int) -> float | None: ...


class Audit(Protocol):
    """What is needed of the record."""

    async def job_cancelled(self, job_id: str, *, caller: str, by: Actor) -> None: ...


class JobOffice:
    """Takes jobs in, for their runner to carry out.

    Every method raises `AuditUnavailable` where the database can't be read or written; then nothing has changed. What is on disk is never
    refused after that: where it can't be read back, it is shown as it was written.

    Args:
        engine: the database.
        tokens: which token a call goes with.
        catalogue: the operations.
        lanes: how long sends take.
        audit: the record.
        intake: puts jobs down.
        cancel: tells the runner that nothing more of a job is to be sent.
    """

    def __init__(  # noqa: PLR0913 - the collaborators, each a room of its own
        self,
        *,
        engine: AsyncEngine,
        tokens: Tokens,
        catalogue: Catalogue,
        lanes: Lanes,
        audit: Audit,
        intake: JobIntake,
        cancel: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._catalogue = catalogue
        self._lanes = lanes
        self._audit = audit
        self._intake = intake
        self._store = JobStore()
        self._halt = cancel

    async def take_batch(self, caller: Caller, asked: BatchAsked, by: Actor, *, origin: str | None, key: Key | None = None) -> JobSeen:
        """Put a batch down; it is on record and on disk when this returns. With a key that was used for it already, that is its first job.

        Raises:
            NotFound: there is no such operation.
            ParameterUnknown, ParameterMissing: the operation has no such parameter, or there is no ID.
            TicketIdsNotAllowed: the caller's ticket is for other IDs.
            TokenNotGranted, OperationNotGranted, TokenAmbiguous, TokenUnavailable, TokenKindNotAccepted
            JobQuotaExceeded: too much of the caller's waits.
            AuditUnavailable: it can't be put on record; nothing was taken in.
            IdempotencyMismatch: the key stands for another request.
        """
        made = await self._intake.take(self._drawn_up(caller, asked, by, origin), key)
        assert isinstance(made, Made), "what a batch is given is a job"  # noqa: S101
        return replace(await self.seen(made.job), repeated=made.repeated)

    async def job(self, caller: Caller, job_id: str) -> Job:
        """One of the caller's jobs.

        Raises:
            NotFound: there is none of that ID, or it is another's.
        """
        async with self._reading() as connection:
            return _own(caller, await self._store.job(connection, job_id))

    async def look(self, caller: Caller, job_id: str) -> JobSeen:
        """One of the caller's jobs, with what failed, and when it will end.

        Raises:
            NotFound
        """
        return await self._see(await self.job(caller, job_id))

    async def seen(self, job: Job) -> JobSeen:
        """A job that is on disk, as it is now; as it is given where it can't be read."""
        try:
            return await self._see(await self._anyones(job.id))
        except AuditUnavailable:
            return JobSeen(job)

    async def glance(self, caller: Caller, job_id: str) -> JobSeen:
        """One of the caller's jobs, and when it will end; what failed isn't read.

        Raises:
            NotFound
        """
        job = await self.job(caller, job_id)
        async with self._reading() as connection:
            return JobSeen(job, await self._ends_in(connection, job))

    async def jobs(self, caller: Caller, *, limit: int, before: str | None, state: JobState | None = None) -> list[Job]:
        """The caller's jobs, newest first, those older than `before`; a ticket's own only."""
        credential_id = caller.credential_id if caller.credential is CredentialKind.TICKET else None
        async with self._reading() as connection:
            return await self._store.listed(
                connection, caller_id=caller.id, limit=limit, before=before, state=state, credential_id=credential_id
            )

    async def finished(self, caller: Caller, job_id: str) -> Job:
        """One of the caller's jobs, of which nothing will change any more.

        Raises:
            NotFound
            Conflict: it isn't finished.
        """
        job = await self.job(caller, job_id)
        if not job.finished:
            message = "the job isn't finished; ask again later, or with partial=true for what is known by now"
            raise Conflict(message, retry_after=(await self._see(job)).ends_in)
        return job

    async def parts(self, job: Job, *, after: int) -> list[Part]:
        """The next parts of a job behind the place `after`, in their order; none: there are no more."""
        async with self._reading() as connection:
            return await self._store.parts(connection, job.id, list(PartState), after=after, limit=PAGE_PARTS)

    async def cancel(self, caller: Caller, job_id: str, by: Actor) -> JobSeen:
        """Have nothing more of a job sent; what is under way comes to its end. One that is finished stays as it is.

        Raises:
            NotFound
            AuditUnavailable: it can't be put on record; the job goes on.
        """
        return await self.seen(await self._cancel(await self.job(caller, job_id), by))

    async def every(self, *, limit: int, before: str | None, state: JobState | None) -> list[Job]:
        """All callers' jobs, newest first, those older than `before`: for the gateway's own people."""
        async with self._reading() as connection:
            return await self._store.listed(connection, caller_id=None, limit=limit, before=before, state=state)

    async def look_at_anyones(self, job_id: str) -> JobSeen:
        """A job, whosever it is, as `look`: for the gateway's own people.

        Raises:
            NotFound
        """
        return await self._see(await self._anyones(job_id))

    async def cancel_anyones(self, job_id: str, *, by: Actor) -> JobSeen:
        """Cancel a job, whosever it is, as `cancel`: for the gateway's own people.

        Raises:
            NotFound
            AuditUnavailable: it can't be put on record; the job goes on.
        """
        return await self.seen(await self._cancel(await self._anyones(job_id), by))

    def told_apart(self, job: Job) -> bool:
        """Whether the upstream's answers say of each of the job's IDs if it was linked: they list IDs of the same sort."""
        if job.operation not in self._catalogue:
            return False
        return any(one.coalesce for one in self._catalogue[job.operation].parameters if one.name == job.parameter)

    def _drawn_up(self, caller: Caller, asked: BatchAsked, by: Actor, origin: str | None) -> NewJob:
        operation, parameter = self._called(asked)
        ids = tuple(dict.fromkeys(asked.ids))
        if not ids:
            message = "there is no ID in the list"
            raise ParameterMissing(message)
        check_ids(caller, parameter, ids)
        return NewJob(
            caller=caller,
            operation=operation,
            parameter=parameter,
            ids=ids,
            token=self._tokens.choose(caller, operation, asked.token),
            priority=asked.priority,
            request_id=by.request_id or "",
            expires_at=(datetime.now(UTC) + LIFETIME).isoformat(timespec="microseconds"),
            trace_id=by.trace_id,
            address=by.address,
            origin=origin,
        )

    async def _cancel(self, job: Job, by: Actor) -> Job:
        if job.finished or job.cancelling:
            return job
        await self._audit.job_cancelled(job.id, caller=job.caller, by=by)
        async with or_refused(writing(self._engine), "the job can't be cancelled now, and goes on") as connection:
            await self._store.ask_to_cancel(connection, job.id)
        self._halt(job.id)
        return replace(job, cancelling=True)

    def _reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return or_refused(reading(self._engine), "jobs can't be read now")

    async def _anyones(self, job_id: str) -> Job:
        async with self._reading() as connection:
            return await self._store.job(connection, job_id)

    def _called(self, asked: BatchAsked) -> tuple[Operation, Parameter]:
        if asked.operation not in self._catalogue:
            message = "there is no operation of that name"
            raise NotFound(message)
        operation = self._catalogue[asked.operation]
        parameter = next((one for one in operation.parameters if one.name == asked.parameter), None)
        if parameter is None:
            message = f"{operation.id} has no parameter of that name"
            raise ParameterUnknown(message, declared=[one.name for one in operation.parameters])
        return operation, parameter

    async def _see(self, job: Job) -> JobSeen:
        async with self._reading() as connection:
            return JobSeen(job, await self._ends_in(connection, job), await self._failures(connection, job))

    async def _ends_in(self, connection: AsyncConnection, job: Job) -> float | None:
        if job.finished:
            return None
        sends = (await outlook(connection, [job.token_id], self._catalogue)).sends_until(job.token_id, job.id)
        return self._lanes.wait_behind_interactive(job.token_id, job.operation, sends)

    async def _failures(self, connection: AsyncConnection, job: Job) -> tuple[IdResult, ...]:
        if not job.counts.failed:
            return ()
        parts = await self._store.parts(connection, job.id, FAILING, after=0, limit=SHOWN_FAILURES)
        return tuple(islice(chain.from_iterable(results_of(part, told_apart=False) for part in parts), SHOWN_FAILURES))


def _own(caller: Caller, job: Job) -> Job:
    """A ticket's visitor sees what was asked for with that ticket, not what its caller and other visitors asked for."""
    is_own = job.caller_id == caller.id and (caller.credential is not CredentialKind.TICKET or job.credential_id == caller.credential_id)
    if not is_own:
        message = f"there is no job {job.id}"
        raise NotFound(message)
    return job
