"""Where jobs are taken in: put on record, and on disk, within what their caller may have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain import Actor
from app.errors import AuditUnavailable
from app.jobs import Job, JobQuota, JobStore, NewJob
from app.jobs.idempotency import KeptAnswer, Key
from app.jobs.refusing import or_refused
from app.repeating import Add, Made, Repeats
from app.storage import reading

__all__ = ["JobIntake"]

MYSELF = "gateway:jobs"
UNREADABLE = "jobs can't be read now"

log = structlog.get_logger(__name__)


class Audit(Protocol):
    """What is needed of the record."""

    async def job_accepted(self, asked: NewJob) -> None: ...

    async def job_cancelled(self, job_id: str, *, caller: str, by: Actor) -> None: ...


class JobIntake:
    """Takes jobs in, for their runner to carry out.

    Args:
        engine: the database.
        audit: the record.
        quota: how much of a caller's may wait.
        repeats: knows what earlier requests with the same key were given.
        wake: tells the runner that there is something to do.
    """

    def __init__(self, engine: AsyncEngine, audit: Audit, quota: JobQuota, repeats: Repeats, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._audit = audit
        self._quota = quota
        self._repeats = repeats
        self._wake = wake
        self._store = JobStore()
        # From the look at the quota to the job's row a caller's jobs go one at a time: of two that find room for one, one would come on
        # record for nothing. Those of other processes may.
        self._taking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, new: NewJob, key: Key | None, add: Add | None = None) -> KeptAnswer | Made:
        """Put a job down, or find what the first request with its key was given.

        Args:
            new: the job.
            key: the request's, if it has one.
            add: puts it down; without one it waits for its runner.

        Raises:
            JobQuotaExceeded: too much of the caller's waits.
            AuditUnavailable: it can't be put on record or on disk; nothing was taken in.
            IdempotencyMismatch, Conflict, UpstreamUnreachable, NotFound: of the first request with its key.
        """
        async with self._taking.setdefault(new.caller.id, asyncio.Lock()):
            first = await self._repeats.first(key, new.operation) if key else None
            if first:
                return first
            async with or_refused(reading(self._engine), UNREADABLE) as connection:
                await self._require_room(connection, new)
            # On record first: the record has its own connection, which couldn't write while this one did.
            await self._audit.job_accepted(new)
            made = await self._stored(new, key, partial(self._add, new, add))
        self._wake()
        return made

    async def _add(self, new: NewJob, add: Add | None, connection: AsyncConnection, uncertain: bool) -> Job:  # noqa: FBT001 - as `Repeats` calls it
        """Put it down, if there is room still: another process may have taken some since the look, and none does while this one writes."""
        await self._require_room(connection, new)
        return await (add(connection, uncertain) if add else self._store.add(connection, new))

    async def _require_room(self, connection: AsyncConnection, new: NewJob) -> None:
        open_jobs, waiting_ids = await self._store.open_of(connection, new.caller.id)
        self._quota.check(open_jobs, waiting_ids, more=len(new.ids))

    async def _stored(self, new: NewJob, key: Key | None, add: Add) -> KeptAnswer | Made:
        """Store a job that is on record. Where that fails, or another request has its key meanwhile, the record says that there is none."""
        try:
            made = await self._repeats.job(key, add, new.operation)
        except Exception as error:
            found = await self._closed(new)
            if found and isinstance(error, AuditUnavailable):
                return Made(found, repeated=False)
            raise
        if isinstance(made, KeptAnswer) or made.job.id != new.id:
            await self._closed(new)
        return made

    async def _closed(self, new: NewJob) -> Job | None:
        """Say on record that a job isn't there; gives it if it is. If that can't be known or said, the record says that it was accepted."""
        try:
            async with or_refused(reading(self._engine), UNREADABLE) as connection:
                for found in await self._store.jobs(connection, [new.id]):
                    return found
            await self._audit.job_cancelled(new.id, caller=new.caller.name, by=Actor(by=MYSELF, request_id=new.request_id))
        except AuditUnavailable:
            log.exception("the record can't be told that an accepted job isn't there", job=new.id)
        return None
