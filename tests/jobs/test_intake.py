"""Taking jobs in: whose intake waits for whose, and what the record says of what isn't taken in after all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Actor
from app.errors import AuditUnavailable, Conflict
from app.jobintake import JobIntake
from app.jobs import JobQuota, JobStore, NewJob
from app.jobs.idempotency import KeptAnswer, Key
from app.repeating import Made, Repeats
from app.storage import reading, writing
from tests.jobs.rows import new_job
from tests.storage.database import opened

KEY = Key("caller-1", "k" * 64, "f" * 64)
OTHERS = KeptAnswer(200, {}, "[]")
NOWHERE: Any = None
"""No call goes there."""


async def nothing(_call_id: str) -> None:
    """What the record says of calls."""


@dataclass
class Record:
    """A record that keeps jobs of `slow` callers waiting until it is let go."""

    slow: Sequence[str] = ()
    accepted: list[str] = field(default_factory=list)
    cancelled: list[tuple[str, str, Actor]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def job_accepted(self, asked: NewJob) -> None:
        """Put it on record, in time."""
        if asked.caller.id in self.slow:
            self.asked.set()
            await self.let_go.wait()
        self.accepted.append(asked.id)

    async def job_cancelled(self, job_id: str, *, caller: str, by: Actor) -> None:
        """Put it on record."""
        self.cancelled.append((job_id, caller, by))


class Quicker(Repeats):
    """Between the look at a key and the job's row another request has the key."""

    def __init__(self, engine: AsyncEngine, found: KeptAnswer | Conflict) -> None:
        super().__init__(engine, NOWHERE, nothing, alone=True)
        self._quicker = found

    async def first(self, *_: object) -> None:
        """Nothing yet."""

    async def job(self, *_: object) -> KeptAnswer | Made:
        """What that request made."""
        if isinstance(self._quicker, KeptAnswer):
            return self._quicker
        raise self._quicker


def intake_of(engine: AsyncEngine, record: Record, repeats: Repeats | None = None, **quota: int) -> JobIntake:
    """An intake that takes jobs in."""
    return JobIntake(engine, record, JobQuota(**quota), repeats or Repeats(engine, NOWHERE, nothing, alone=True), lambda: None)


def job_of(caller: str) -> NewJob:
    """A job of a caller's."""
    new = new_job([1])
    return replace(new, caller=replace(new.caller, id=caller))


async def stored(engine: AsyncEngine, job_id: str) -> bool:
    """Whether there is such a job."""
    async with reading(engine) as connection:
        return bool(await JobStore().jobs(connection, [job_id]))


async def test_a_caller_doesnt_wait_for_anothers_record(database: str) -> None:
    """While one's job is put on record others' are taken in; its own next one isn't, for it could take the same place."""
    async with opened(database) as engine:
        record = Record(slow=["slow"])
        intake = intake_of(engine, record, jobs=1)
        first, second, other = job_of("slow"), job_of("slow"), job_of("other")
        taking = [asyncio.create_task(intake.take(new, None)) for new in (first, second)]
        await record.asked.wait()
        async with asyncio.timeout(10):
            await intake.take(other, None)
        between = list(record.accepted)
        record.let_go.set()
        ends = await asyncio.gather(*taking, return_exceptions=True)

    assert between == [other.id]
    assert record.accepted == [other.id, first.id]
    assert [type(end).__name__ for end in ends] == ["Made", "JobQuotaExceeded"]


async def test_two_processes_dont_fill_the_same_room(database: str) -> None:
    """Of two jobs that come at once to two processes, where the caller may have one, the second is refused and cancelled on record."""
    async with opened(database) as engine:
        records = [Record(slow=["caller"]), Record(slow=["caller"])]
        taking = [asyncio.create_task(intake_of(engine, record, jobs=1).take(job_of("caller"), None)) for record in records]
        for record in records:
            await record.asked.wait()
        for record in records:
            record.let_go.set()
        ends = await asyncio.gather(*taking, return_exceptions=True)

    assert sorted(type(end).__name__ for end in ends) == ["JobQuotaExceeded", "Made"]
    assert sorted(len(record.cancelled) for record in records) == [0, 1]


async def test_nothing_is_kept_of_callers_that_ask_for_nothing(database: str) -> None:
    """However many asked before."""
    async with opened(database) as engine:
        intake = intake_of(engine, Record())
        for number in range(5):
            await intake.take(job_of(f"caller-{number}"), None)
        gc.collect()

        assert len(intake._taking) == 0


async def test_a_job_that_isnt_stored_after_all_is_cancelled_on_record(database: str) -> None:
    """The record doesn't tell of a job that isn't there."""
    async with opened(database) as engine:
        record, new = Record(), job_of("caller-1")
        async with writing(engine) as connection:
            await connection.execute(text("ALTER TABLE job_parts RENAME TO aside"))
        with pytest.raises(AuditUnavailable):
            await intake_of(engine, record).take(new, None)
        there = await stored(engine, new.id)

    assert not there
    assert record.accepted == [new.id]
    assert record.cancelled == [(new.id, new.caller.name, Actor(by="gateway:jobs", request_id=new.request_id))]


@pytest.mark.parametrize("found", [OTHERS, Conflict("it runs")])
async def test_a_job_whose_key_was_taken_meanwhile_is_cancelled_on_record(database: str, found: KeptAnswer | Conflict) -> None:
    """What the other request made is given, and this one made nothing."""
    async with opened(database) as engine:
        record, new = Record(), job_of("caller-1")
        (given,) = await asyncio.gather(intake_of(engine, record, Quicker(engine, found)).take(new, KEY), return_exceptions=True)

    assert given is found
    assert [job_id for job_id, _, _ in record.cancelled] == record.accepted == [new.id]


async def test_a_job_that_is_stored_isnt_called_refused(database: str) -> None:
    """Where a commit fails for who waits for it, and is carried through all the same, the job is taken in."""

    class LostCommit(Repeats):
        async def job(self, *given: Any) -> KeptAnswer | Made:
            await super().job(*given)
            message = "the connection was lost"
            raise AuditUnavailable(message)

    async with opened(database) as engine:
        record, new = Record(), job_of("caller-1")
        made = await intake_of(engine, record, LostCommit(engine, NOWHERE, nothing, alone=True)).take(new, None)

    assert isinstance(made, Made)
    assert (made.job.id, made.repeated, record.cancelled) == (new.id, False, [])
