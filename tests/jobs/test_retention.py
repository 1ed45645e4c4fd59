from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

import app.jobs.retention
from app.jobs import JobState, JobStore
from app.jobs.retention import JOBS_AT_ONCE, JobRetention
from app.storage import ALONE, reading, writing
from app.storage.tables import job_parts, jobs
from tests.jobs.rows import added, at, new_job
from tests.leads import Appointed
from tests.rig import rigged, until
from tests.storage.database import opened


async def test_finished_jobs_go_after_their_time(database: str) -> None:
    """With their parts, however many there are; a job that finished lately stays, and one that isn't finished, however old."""
    async with opened(database) as engine:
        old = [await added(engine, new_job([1, 2, 3, 4])) for _ in range(JOBS_AT_ONCE + 1)]
        late, unfinished = await added(engine, new_job([1])), await added(engine, new_job([1]))
        async with writing(engine) as connection:
            for ids, days in (([job.id for job in old], 8), ([late.id], 6)):
                ended = {"state": JobState.SUCCEEDED, "finished_at": at(-timedelta(days=days))}
                await connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(ended))
        removed = await JobRetention(engine, 7, ALONE).sweep()
        async with reading(engine) as connection:
            left = await JobStore().listed(connection, caller_id=None, limit=100)
            parts = (await connection.execute(select(func.count()).select_from(job_parts))).scalar_one()

        assert removed == len(old)
        assert {job.id for job in left} == {late.id, unfinished.id}
        assert parts == 2


async def test_a_gateway_removes_old_jobs_by_itself(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its setting says, some time after its start."""
    monkeypatch.setattr(app.jobs.retention, "FIRST_SECONDS", 0.0)
    async with opened(database) as engine:
        job = await added(engine, new_job([1]))
        async with writing(engine) as connection:
            ended = {"state": JobState.SUCCEEDED, "finished_at": at(-timedelta(days=2))}
            await connection.execute(update(jobs).where(jobs.c.id == job.id).values(ended))
    async with rigged(tmp_path, job_retention=1) as rig:

        async def is_gone() -> bool:
            async with reading(rig.house.engine) as connection:
                return not await JobStore().jobs(connection, [job.id])

        await until(is_gone)


async def test_who_does_not_lead_leaves_old_jobs(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several replicas one removes them; another does once it leads."""
    monkeypatch.setattr(app.jobs.retention, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(app.jobs.retention, "EVERY_SECONDS", 0.01)
    lead = Appointed()
    async with opened(database) as engine:
        job = await added(engine, new_job([1]))
        async with writing(engine) as connection:
            ended = {"state": JobState.SUCCEEDED, "finished_at": at(-timedelta(days=2))}
            await connection.execute(update(jobs).where(jobs.c.id == job.id).values(ended))

        async def is_gone() -> bool:
            async with reading(engine) as connection:
                return not await JobStore().jobs(connection, [job.id])

        async with JobRetention(engine, 1, lead).kept():
            await until(lead.was_asked)
            was_kept = not await is_gone()
            lead.appoint()
            await until(is_gone)

    assert was_kept
