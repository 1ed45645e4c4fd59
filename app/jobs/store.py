"""The rows of jobs and of their parts. Every function works in the transaction that it is handed."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import islice

from sqlalchemy import RowMapping, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import Priority, utc_now
from app.errors import NotFound
from app.jobs.job import OPEN, Counts, Job, JobKind, JobState, NewJob, Part, PartState, cut
from app.storage.tables import job_parts, jobs

__all__ = ["JobStore", "ids_as_text", "job_of", "part_of", "part_row"]

ROWS_AT_ONCE = 200


class JobStore:
    """What is known of jobs."""

    async def add(self, connection: AsyncConnection, new: NewJob) -> Job:
        """Put a job down, cut into parts of as many IDs as its parameter takes."""
        job = _row_of(new)
        await connection.execute(insert(jobs).values(job))
        pieces = cut(new.ids, new.parameter.max_items)
        job_id = str(job["id"])
        rows = (part_row(job_id, seq, ids) for seq, ids in enumerate(pieces, start=1))
        while some := list(islice(rows, ROWS_AT_ONCE)):
            await connection.execute(insert(job_parts), some)
        return await self.job(connection, job_id)

    async def job(self, connection: AsyncConnection, job_id: str) -> Job:
        """One job.

        Raises:
            NotFound
        """
        row = (await connection.execute(select(jobs).where(jobs.c.id == job_id))).mappings().one_or_none()
        if row is None:
            message = f"there is no job {job_id}"
            raise NotFound(message)
        return job_of(row)

    async def jobs(self, connection: AsyncConnection, job_ids: Collection[str]) -> list[Job]:
        """Those of these jobs that there are."""
        rows = (await connection.execute(select(jobs).where(jobs.c.id.in_(job_ids)))).mappings()
        return [job_of(row) for row in rows]

    async def listed(  # noqa: PLR0913 - what a list may be narrowed to
        self,
        connection: AsyncConnection,
        *,
        caller_id: str | None,
        limit: int,
        before: str | None = None,
        state: JobState | None = None,
        credential_id: str | None = None,
    ) -> list[Job]:
        """Jobs, newest first: a caller's, or all; those older than the job `before`, in one state, or asked for with one credential."""
        query: Select[*tuple[object, ...]] = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if caller_id is not None:
            query = query.where(jobs.c.caller_id == caller_id)
        if before is not None:
            query = query.where(jobs.c.id < before)
        if state is not None:
            query = query.where(jobs.c.state == state)
        if credential_id is not None:
            query = query.where(jobs.c.credential_id == credential_id)
        return [job_of(row) for row in (await connection.execute(query)).mappings()]

    async def open_of(self, connection: AsyncConnection, caller_id: str) -> tuple[int, int]:
        """How many jobs of a caller aren't finished, and how many IDs wait in them."""
        waiting = jobs.c.total - jobs.c.answered - jobs.c.failed - jobs.c.cancelled
        query = select(func.count(), func.coalesce(func.sum(waiting), 0)).where(jobs.c.caller_id == caller_id, jobs.c.state.in_(OPEN))
        open_jobs, ids = (await connection.execute(query)).one()
        return int(open_jobs), int(ids)

    async def parts(self, connection: AsyncConnection, job_id: str, states: Sequence[PartState], *, after: int, limit: int) -> list[Part]:
        """A job's parts in these states, in their order, from behind the place `after`."""
        query = select(job_parts).where(job_parts.c.job_id == job_id, job_parts.c.seq > after, job_parts.c.state.in_(list(states)))
        rows = (await connection.execute(query.order_by(job_parts.c.seq).limit(limit))).mappings()
        return [part_of(row) for row in rows]

    async def ask_to_cancel(self, connection: AsyncConnection, job_id: str) -> None:
        """What of the job isn't taken yet shall not be sent."""
        await connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(OPEN)).values(cancelling=1))

    async def sweep(self, connection: AsyncConnection, before: str, *, most: int) -> int:
        """Remove jobs that finished before that time, at most so many; gives how many went."""
        old = select(jobs.c.id).where(jobs.c.finished_at < before).limit(most)
        return (await connection.execute(jobs.delete().where(jobs.c.id.in_(old)))).rowcount


def _row_of(new: NewJob) -> dict[str, object]:
    return {
        "id": new.id,
        "kind": new.kind,
        "caller_id": new.caller.id,
        "caller": new.caller.name,
        "basis": new.caller.basis,
        "credential_id": new.caller.credential_id,
        "request_id": new.request_id,
        "trace_id": new.trace_id,
        "address": new.address,
        "origin": new.origin,
        "operation": new.operation.id,
        "parameter": new.parameter.name,
        "token_id": new.token.id,
        "token": new.token.name,
        "priority": new.priority,
        "state": JobState.QUEUED,
        "total": len(new.ids),
        "answered": 0,
        "failed": 0,
        "cancelled": 0,
        "linked": 0,
        "uncertain": 0,
        "cancelling": 0,
        "created_at": utc_now(),
        "expires_at": new.expires_at,
    }


COUNTS = ("total", "answered", "failed", "cancelled", "linked")
NOT_OF_A_JOB = frozenset({*COUNTS, "owner", "lease_until"})


def job_of(row: RowMapping) -> Job:
    """A job, of its whole row."""
    members = {name: value for name, value in row.items() if name not in NOT_OF_A_JOB}
    members |= {"kind": JobKind(row["kind"]), "priority": Priority(row["priority"]), "state": JobState(row["state"])}
    members |= {"uncertain": bool(row["uncertain"]), "cancelling": bool(row["cancelling"])}
    return Job(**members, counts=Counts(**{name: row[name] for name in COUNTS}))


def part_of(row: RowMapping) -> Part:
    """A part, of its whole row."""
    return Part(
        job_id=row["job_id"],
        seq=row["seq"],
        ids=_numbers(row["ids"]),
        state=PartState(row["state"]),
        call_id=row["call_id"],
        uncertain=bool(row["uncertain"]),
        linked=_numbers(row["linked"]),
        problem=json.loads(row["problem"]) if row["problem"] else None,
    )


def part_row(job_id: str, seq: int, ids: Sequence[int], *, uncertain: bool = False) -> dict[str, object]:
    """The row of a part that waits."""
    return {
        "job_id": job_id,
        "seq": seq,
        "ids": ids_as_text(ids),
        "state": PartState.WAITING,
        "uncertain": int(uncertain),
        "linked": "",
    }


def ids_as_text(ids: Sequence[int]) -> str:
    """IDs as they stand in a row."""
    return ",".join(map(str, ids))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()
