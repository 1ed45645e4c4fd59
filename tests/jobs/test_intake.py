"""Taking jobs in: whose intake waits for whose."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.jobintake import JobIntake
from app.jobs import JobQuota, NewJob
from app.repeating import Repeats
from tests.jobs.rows import database, new_job

NOWHERE: Any = None
"""No call goes there."""


async def nothing(_call_id: str) -> None:
    """What the record says of calls."""


@dataclass
class Record:
    """A record that keeps jobs of `slow` callers waiting until it is let go."""

    slow: Sequence[str] = ()
    accepted: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def job_accepted(self, asked: NewJob) -> None:
        """Put it on record, in time."""
        if asked.caller.id in self.slow:
            self.asked.set()
            await self.let_go.wait()
        self.accepted.append(asked.id)


def intake_of(engine: AsyncEngine, record: Record, repeats: Repeats | None = None, **quota: int) -> JobIntake:
    """An intake that takes jobs in."""
    return JobIntake(engine, record, JobQuota(**quota), repeats or Repeats(engine, NOWHERE, nothing), lambda: None)


def job_of(caller: str) -> NewJob:
    """A job of a caller's."""
    new = new_job([1])
    return replace(new, caller=replace(new.caller, id=caller))


async def test_a_caller_doesnt_wait_for_anothers_record(tmp_path: Path) -> None:
    """While one's job is put on record others' are taken in; its own next one isn't, for it could take the same place."""
    async with database(tmp_path) as engine:
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


async def test_nothing_is_kept_of_callers_that_ask_for_nothing(tmp_path: Path) -> None:
    """However many asked before."""
    async with database(tmp_path) as engine:
        intake = intake_of(engine, Record())
        for number in range(5):
            await intake.take(job_of(f"caller-{number}"), None)
        gc.collect()

        assert len(intake._taking) == 0
