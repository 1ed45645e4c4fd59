"""The rows of jobs and of their parts. Every function works in the transaction that it is handed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count

from sqlalchemy import ColumnElement, RowMapping, Select, case, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import Priority, utc_now
from app.errors import NotFound
from app.jobs.job import OPEN, Counts, Job, JobState, NewJob, Part, PartEnd, PartState, cut
from app.storage.tables import job_parts, jobs

__all__ = ["JobStore"]

COUNTED = {PartState.ANSWERED: "answered", PartState.FAILED: "failed", PartState.CANCELLED: "cancelled", PartState.EXPIRED: "failed"}


class JobStore:
    """What is known of jobs."""

    async def add(self, connection: AsyncConnection, new: NewJob) -> Job:
        """Put a job down, cut into parts of as many IDs as its parameter takes."""
        job = _row_of(new)
        await connection.execute(insert(jobs).values(job))
        pieces = cut(new.ids, new.parameter.max_items)
        parts = [
            {"job_id": job["id"], "seq": seq, "ids": _text(ids), "state": PartState.WAITING, "uncertain": 0, "linked": ""}
            for seq, ids in enumerate(pieces, start=1)
        ]
        await connection.execute(insert(job_parts), parts)
        return await self.job(connection, str(job["id"]))

    async def job(self, connection: AsyncConnection, job_id: str) -> Job:
        """One job.

        Raises:
            NotFound
        """
        row = (await connection.execute(select(jobs).where(jobs.c.id == job_id))).mappings().one_or_none()
        if row is None:
            message = f"there is no job {job_id}"
            raise NotFound(message)
        return _job(row)

    async def some(self, connection: AsyncConnection, job_ids: Sequence[str]) -> list[Job]:
        """Those of these jobs that there are."""
        return [_job(row) for row in (await connection.execute(select(jobs).where(jobs.c.id.in_(job_ids)))).mappings()]

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
        return [_job(row) for row in (await connection.execute(query)).mappings()]

    async def open_of(self, connection: AsyncConnection, caller_id: str) -> tuple[int, int]:
        """How many jobs of a caller aren't finished, and how many IDs wait in them."""
        waiting = jobs.c.total - jobs.c.answered - jobs.c.failed - jobs.c.cancelled
        query = select(func.count(), func.coalesce(func.sum(waiting), 0)).where(jobs.c.caller_id == caller_id, jobs.c.state.in_(OPEN))
        open_jobs, ids = (await connection.execute(query)).one()
        return int(open_jobs), int(ids)

    async def claim(self, connection: AsyncConnection, owner: str, *, lease_until: str) -> list[Job]:
        """Take over every open job that nobody's lease holds, and renew the lease of one's own; gives those that are new here."""
        now = utc_now()
        free = or_(jobs.c.owner.is_(None), jobs.c.lease_until < now)
        rows = (await connection.execute(select(jobs).where(jobs.c.state.in_(OPEN), free).order_by(jobs.c.id))).mappings().all()
        mine = or_(jobs.c.id.in_([row["id"] for row in rows]), jobs.c.owner == owner)
        await connection.execute(update(jobs).where(jobs.c.state.in_(OPEN), mine).values(owner=owner, lease_until=lease_until))
        return [_job(row) for row in rows]

    async def release(self, connection: AsyncConnection, owner: str) -> None:
        """Give up every job that this owner holds: it ends, and another may go on at once."""
        await connection.execute(update(jobs).where(jobs.c.owner == owner).values(owner=None, lease_until=None))

    async def parts(self, connection: AsyncConnection, job_id: str, states: Sequence[PartState], *, after: int, limit: int) -> list[Part]:
        """A job's parts in these states, in their order, from behind the place `after`."""
        query = select(job_parts).where(job_parts.c.job_id == job_id, job_parts.c.seq > after, job_parts.c.state.in_(list(states)))
        rows = (await connection.execute(query.order_by(job_parts.c.seq).limit(limit))).mappings()
        return [_part(row) for row in rows]

    async def take(self, connection: AsyncConnection, parts: Sequence[Part]) -> None:
        """These parts are about to be sent, each with the call ID that it has now."""
        for part in parts:
            values = {"state": PartState.TAKEN, "call_id": part.call_id, "uncertain": int(part.uncertain)}
            await connection.execute(update(job_parts).where(*_place(part)).values(values))
        begun = update(jobs).where(jobs.c.id.in_({part.job_id for part in parts}), jobs.c.state == JobState.QUEUED)
        await connection.execute(begun.values(state=JobState.RUNNING, started_at=utc_now()))

    async def end(self, connection: AsyncConnection, ends: Sequence[PartEnd]) -> None:
        """These parts have ended, or go back to wait. One that has ended already stays as it is."""
        for end in ends:
            values = {
                "state": end.state,
                "linked": _text(end.linked),
                "problem": json.dumps(end.problem) if end.problem else None,
                "uncertain": int(end.uncertain),
            }
            found = await connection.execute(
                update(job_parts).where(*_place(end.part), job_parts.c.state.in_([PartState.WAITING, PartState.TAKEN])).values(values)
            )
            if found.rowcount and end.state in COUNTED:
                await self._count(connection, end)

    async def split(self, connection: AsyncConnection, part: Part) -> list[Part]:
        """Put two halves in a part's place; gives them."""
        last = (await connection.execute(select(func.max(job_parts.c.seq)).where(job_parts.c.job_id == part.job_id))).scalar_one()
        half = (len(part.ids) + 1) // 2
        halves = [
            Part(job_id=part.job_id, seq=seq, ids=ids, uncertain=part.uncertain) for seq, ids in zip(count(last + 1), cut(part.ids, half))
        ]
        await connection.execute(job_parts.delete().where(*_place(part)))
        rows = [
            {"job_id": one.job_id, "seq": one.seq, "ids": _text(one.ids), "state": one.state, "uncertain": int(one.uncertain), "linked": ""}
            for one in halves
        ]
        await connection.execute(insert(job_parts), rows)
        return halves

    async def ask_to_cancel(self, connection: AsyncConnection, job_id: str) -> None:
        """What of the job isn't taken yet shall not be sent."""
        await connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(OPEN)).values(cancelling=1))

    async def drop_waiting(self, connection: AsyncConnection, job_id: str, state: PartState) -> None:
        """End every part that waits, unsent: cancelled, or expired."""
        waiting = (job_parts.c.job_id == job_id, job_parts.c.state == PartState.WAITING)
        ids = func.length(job_parts.c.ids) - func.length(func.replace(job_parts.c.ids, ",", "")) + 1
        dropped = (await connection.execute(select(func.coalesce(func.sum(ids), 0)).where(*waiting))).scalar_one()
        await connection.execute(update(job_parts).where(*waiting).values(state=state))
        column = COUNTED[state]
        await connection.execute(update(jobs).where(jobs.c.id == job_id).values({column: jobs.c[column] + dropped}))

    async def finish(self, connection: AsyncConnection, job_id: str) -> Job:
        """Let a job end of which no part waits or is under way; its state follows from how they ended."""
        job = await self.job(connection, job_id)
        if job.finished:
            return job
        values = {"state": _end_state(job), "finished_at": utc_now(), "owner": None, "lease_until": None}
        await connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
        return await self.job(connection, job_id)

    async def sweep(self, connection: AsyncConnection, before: str, *, most: int) -> int:
        """Remove jobs that finished before that time, at most so many; gives how many went."""
        old = select(jobs.c.id).where(jobs.c.finished_at < before).limit(most)
        return (await connection.execute(jobs.delete().where(jobs.c.id.in_(old)))).rowcount

    async def _count(self, connection: AsyncConnection, end: PartEnd) -> None:
        column = COUNTED[end.state]
        values = {column: jobs.c[column] + len(end.part.ids), "linked": jobs.c.linked + len(end.linked)}
        uncertain = case((jobs.c.uncertain == 1, 1), else_=int(end.uncertain))
        await connection.execute(update(jobs).where(jobs.c.id == end.part.job_id).values(values | {"uncertain": uncertain}))


def _end_state(job: Job) -> JobState:
    counts = job.counts
    if counts.cancelled:
        return JobState.CANCELLED
    if counts.failed and job.expires_at <= utc_now():
        return JobState.EXPIRED
    if not counts.failed:
        return JobState.SUCCEEDED
    return JobState.PARTLY_FAILED if counts.answered else JobState.FAILED


def _row_of(new: NewJob) -> dict[str, object]:
    return {
        "id": new.id,
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


def _job(row: RowMapping) -> Job:
    members = {name: value for name, value in row.items() if name not in NOT_OF_A_JOB}
    members |= {"priority": Priority(row["priority"]), "state": JobState(row["state"])}
    members |= {"uncertain": bool(row["uncertain"]), "cancelling": bool(row["cancelling"])}
    return Job(**members, counts=Counts(**{name: row[name] for name in COUNTS}))


def _part(row: RowMapping) -> Part:
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


def _place(part: Part) -> tuple[ColumnElement[bool], ...]:
    return job_parts.c.job_id == part.job_id, job_parts.c.seq == part.seq


def _text(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()
