"""What a process writes of the jobs that it holds. Every function works in the transaction that it is handed."""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import count

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import utc_now
from app.jobs.job import OPEN, Counts, Job, JobState, Part, PartEnd, PartState, cut
from app.jobs.store import ids_as_text, job_of, part_row
from app.storage import shared_now
from app.storage.tables import job_parts, jobs

__all__ = ["HeldJobs"]

COUNTED = {PartState.ANSWERED: "answered", PartState.FAILED: "failed", PartState.CANCELLED: "cancelled", PartState.EXPIRED: "failed"}
UNFINISHED = (PartState.WAITING, PartState.TAKEN)


class HeldJobs:
    """The jobs whose lease one process holds.

    Each of its writes says in itself that the job is still this process's: of one that another has taken over meanwhile nothing is
    changed. Which call a part went with tells which of its ends counts.

    Args:
        owner: the process.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner

    async def any(self, connection: AsyncConnection, *, alone: bool) -> bool:
        """Whether there is an open job that is one's own or that nobody's lease holds; `alone`: as `claim`."""
        mine = or_(jobs.c.owner == self._owner, true() if alone else await _is_free(connection))
        return (await connection.execute(select(jobs.c.id).where(jobs.c.state.in_(OPEN), mine).limit(1))).first() is not None

    async def claim(self, connection: AsyncConnection, *, lease_until: str, alone: bool) -> dict[str, tuple[bool, str]]:
        """Renew the lease of one's own jobs, and take every open job that nobody's lease holds.

        Gives the IDs of all of them, the oldest first, and of each whether it is to be cancelled and when it expires: what else is known
        of a job that is carried out stays as it is.

        Args:
            connection: the transaction.
            lease_until: until when they are one's own, by the database's clock; UTC, ISO 8601.
            alone: no other process lives, whatever its lease says.
        """
        mine = or_(jobs.c.owner == self._owner, true() if alone else await _is_free(connection))
        query = update(jobs).where(jobs.c.state.in_(OPEN), mine).values(owner=self._owner, lease_until=lease_until)
        rows = await connection.execute(query.returning(jobs.c.id, jobs.c.cancelling, jobs.c.expires_at))
        return {row.id: (bool(row.cancelling), row.expires_at) for row in sorted(rows, key=lambda row: row.id)}

    async def claim_new(self, connection: AsyncConnection, *, lease_until: str) -> list[Job]:
        """Take the open jobs that nobody's lease holds; gives these and those of one's own that are to be cancelled, the oldest first."""
        mine = and_(jobs.c.owner == self._owner, jobs.c.cancelling == 1)
        found = or_(mine, await _is_free(connection))
        query = update(jobs).where(jobs.c.state.in_(OPEN), found).values(owner=self._owner, lease_until=lease_until)
        rows = (await connection.execute(query.returning(*jobs.c))).mappings()
        return sorted((job_of(row) for row in rows), key=lambda job: job.id)

    async def hold(self, connection: AsyncConnection, job: Job, *, lease_until: str) -> None:
        """Have a new job from its beginning."""
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(owner=self._owner, lease_until=lease_until))

    async def release(self, connection: AsyncConnection) -> None:
        """Give all of them up: the process ends, and another may go on at once."""
        await connection.execute(update(jobs).where(jobs.c.owner == self._owner).values(owner=None, lease_until=None))

    async def take(self, connection: AsyncConnection, part: Part) -> bool:
        """A part that waits is about to be sent, with the call ID that it has now; False: it isn't this process's to send."""
        values = {"state": PartState.TAKEN, "call_id": part.call_id, "uncertain": int(part.uncertain)}
        waits = (*_place(part), job_parts.c.state == PartState.WAITING, self._holds_job_of(job_parts.c.job_id))
        return (await connection.execute(update(job_parts).where(*waits).values(values))).rowcount > 0

    async def begin(self, connection: AsyncConnection, job_ids: Collection[str]) -> None:
        """Parts of these jobs are about to be sent, of some for the first time."""
        if job_ids:
            queued = update(jobs).where(jobs.c.id.in_(job_ids), jobs.c.state == JobState.QUEUED)
            await connection.execute(queued.values(state=JobState.RUNNING, started_at=utc_now()))

    async def end(self, connection: AsyncConnection, end: PartEnd) -> None:
        """A part that is under way with this call has ended, or goes back to wait."""
        values = {
            "state": end.state,
            "linked": ids_as_text(end.linked),
            "problem": json.dumps(end.problem) if end.problem else None,
            "uncertain": int(end.uncertain),
        }
        ended = await connection.execute(update(job_parts).where(*self._under_way(end.part)).values(values))
        if ended.rowcount:
            await self._count(connection, end)

    async def split(self, connection: AsyncConnection, part: Part) -> None:
        """Put two halves in the place of a part that is under way with this call."""
        if not (await connection.execute(delete(job_parts).where(*self._under_way(part)))).rowcount:
            return
        last = (await connection.execute(select(func.max(job_parts.c.seq)).where(job_parts.c.job_id == part.job_id))).scalar_one()
        pieces = cut(part.ids, (len(part.ids) + 1) // 2)
        halves = zip(count(max(last or 0, part.seq) + 1), pieces, strict=False)
        rows = [part_row(part.job_id, seq, ids, uncertain=part.uncertain) for seq, ids in halves]
        await connection.execute(insert(job_parts), rows)

    async def drop_waiting(self, connection: AsyncConnection, job_id: str, state: PartState) -> None:
        """End every part of a job that waits, unsent: cancelled, or expired."""
        waiting = (job_parts.c.job_id == job_id, job_parts.c.state == PartState.WAITING, self._holds_job_of(job_parts.c.job_id))
        ids = func.length(job_parts.c.ids) - func.length(func.replace(job_parts.c.ids, ",", "")) + 1
        dropped = (await connection.execute(select(func.coalesce(func.sum(ids), 0)).where(*waiting))).scalar_one()
        await connection.execute(update(job_parts).where(*waiting).values(state=state))
        column = COUNTED[state]
        await connection.execute(update(jobs).where(jobs.c.id == job_id).values({column: jobs.c[column] + dropped}))

    async def finish(self, connection: AsyncConnection, job: Job) -> bool:
        """Let a job end of which no part waits or is under way; its state follows from how they ended. False: one does."""
        unfinished = select(job_parts.c.seq).where(job_parts.c.job_id == job.id, job_parts.c.state.in_(UNFINISHED)).limit(1)
        if (await connection.execute(unfinished)).first():
            return False
        columns = [jobs.c[name] for name in Counts.__dataclass_fields__]
        row = (await connection.execute(select(*columns).where(jobs.c.id == job.id))).mappings().one()
        state = _end_state(Counts(**row), expired=job.expires_at <= utc_now())
        mine = update(jobs).where(jobs.c.id == job.id, jobs.c.owner == self._owner)
        await connection.execute(mine.values(state=state, finished_at=utc_now(), owner=None, lease_until=None))
        return True

    async def _count(self, connection: AsyncConnection, end: PartEnd) -> None:
        """Add a part's end to its job's counts; what was once uncertain stays so."""
        values: dict[str, object] = {"uncertain": case((jobs.c.uncertain == 1, 1), else_=int(end.uncertain))}
        if column := COUNTED.get(end.state):
            values |= {column: jobs.c[column] + len(end.part.ids), "linked": jobs.c.linked + len(end.linked)}
        await connection.execute(update(jobs).where(jobs.c.id == end.part.job_id).values(values))

    def _under_way(self, part: Part) -> tuple[ColumnElement[bool], ...]:
        state, call = job_parts.c.state == PartState.TAKEN, job_parts.c.call_id == part.call_id
        return *_place(part), state, call, self._holds_job_of(job_parts.c.job_id)

    def _holds_job_of(self, job_id: ColumnElement[str]) -> ColumnElement[bool]:
        return exists().where(jobs.c.id == job_id, jobs.c.owner == self._owner)


async def _is_free(connection: AsyncConnection) -> ColumnElement[bool]:
    now = (await shared_now(connection)).isoformat(timespec="microseconds")
    return or_(jobs.c.owner.is_(None), jobs.c.lease_until < now)


def _end_state(counts: Counts, *, expired: bool) -> JobState:
    if counts.cancelled:
        return JobState.CANCELLED
    if counts.failed and expired:
        return JobState.EXPIRED
    if not counts.failed:
        return JobState.SUCCEEDED
    return JobState.PARTLY_FAILED if counts.answered else JobState.FAILED


def _place(part: Part) -> tuple[ColumnElement[bool], ...]:
    return job_parts.c.job_id == part.job_id, job_parts.c.seq == part.seq
