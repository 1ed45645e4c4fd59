"""Where jobs are asked for, looked at and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import check_ids
from app.catalogue import Catalogue
from app.domain import Actor, Caller, Operation, Priority, TokenRef
from app.errors import NotFound, ParameterMissing, ParameterUnknown
from app.jobs import Job, JobStore, NewJob
from app.storage import reading, writing

__all__ = ["BatchAsked", "JobOffice"]

LIFETIME = timedelta(hours=24)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAsked:
    """Many calls of one operation, as a caller asks for them. `token` is a token's name, None for the caller's default."""

    operation: str
    parameter: str
    ids: Sequence[int]
    token: str | None = None
    priority: Priority = Priority.BATCH


class Tokens(Protocol):
    """Chooses tokens."""

    def choose(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef: ...


class JobOffice:
    """Takes jobs in, for their runner to carry out.

    Args:
        engine: the database.
        tokens: which token a call goes with.
        catalogue: the operations.
        wake: tells the runner that there is something to do.
    """

    def __init__(self, engine: AsyncEngine, tokens: Tokens, catalogue: Catalogue, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._tokens = tokens
        self._catalogue = catalogue
        self._store = JobStore()
        self._wake = wake

    async def take_batch(self, caller: Caller, asked: BatchAsked, by: Actor, *, origin: str | None) -> Job:
        """Put a batch down; it is on disk when this returns.

        Raises:
            NotFound: there is no such operation.
            ParameterUnknown, ParameterMissing: the operation has no such parameter, or there is no ID.
            TokenNotGranted, OperationNotGranted, TokenAmbiguous, TokenUnavailable, TokenKindNotAccepted
        """
        if asked.operation not in self._catalogue:
            message = "there is no operation of that name"
            raise NotFound(message)
        operation = self._catalogue[asked.operation]
        parameter = next((one for one in operation.parameters if one.name == asked.parameter), None)
        if parameter is None:
            message = f"{operation.id} has no parameter of that name"
            raise ParameterUnknown(message, declared=[one.name for one in operation.parameters])
        ids = tuple(dict.fromkeys(asked.ids))
        if not ids:
            message = "there is no ID in the list"
            raise ParameterMissing(message)
        check_ids(caller, parameter, ids)
        new = NewJob(
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
        async with writing(self._engine) as connection:
            job = await self._store.add(connection, new)
        self._wake()
        return job

    async def job(self, caller: Caller, job_id: str) -> Job:
        """One of the caller's jobs.

        Raises:
            NotFound: there is none of that ID, or it is another's.
        """
        async with reading(self._engine) as connection:
            return _own(caller, await self._store.job(connection, job_id))

    async def jobs(self, caller: Caller, *, limit: int, before: str | None) -> list[Job]:
        """The caller's jobs, newest first, those older than `before`."""
        async with reading(self._engine) as connection:
            return await self._store.listed(connection, caller_id=caller.id, limit=limit, before=before)

    async def cancel(self, caller: Caller, job_id: str) -> Job:
        """Have nothing more of a job sent; what is under way comes to its end.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            _own(caller, await self._store.job(connection, job_id))
            await self._store.ask_to_cancel(connection, job_id)
            job = await self._store.job(connection, job_id)
        self._wake()
        return job

    async def every(self, *, limit: int, before: str | None) -> list[Job]:
        """All callers' jobs, newest first, those older than `before`: for the gateway's own people."""
        async with reading(self._engine) as connection:
            return await self._store.listed(connection, caller_id=None, limit=limit, before=before)

    async def anyones(self, job_id: str) -> Job:
        """A job, whosever it is: for the gateway's own people.

        Raises:
            NotFound
        """
        async with reading(self._engine) as connection:
            return await self._store.job(connection, job_id)

    async def cancel_anyones(self, job_id: str, *, by: Actor) -> Job:
        """Have nothing more sent of a job, whosever it is: for the gateway's own people.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            await self._store.ask_to_cancel(connection, job_id)
            job = await self._store.job(connection, job_id)
        log.warning("a job was cancelled over the socket", job=job.id, caller=job.caller, by=by.by)
        self._wake()
        return job


def _own(caller: Caller, job: Job) -> Job:
    if job.caller_id != caller.id:
        message = f"there is no job {job.id}"
        raise NotFound(message)
    return job
