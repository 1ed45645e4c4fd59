"""Jobs of one call, begun at once, beside the turns of the runner."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import app.jobbing
from app.domain import Asked, Priority, new_id
from app.jobbing import JobRunner
from app.jobcalls import Called
from app.jobs import Job, JobKind, JobState
from app.jobs.conclusion import Again
from app.storage import writing
from tests import loopback
from tests.cli import processes
from tests.jobs.rows import LINK, SERVICE, added, job_of, new_job
from tests.jobs.test_runner import answered, cancel, finished, running
from tests.kills.stage import FIRST_ORDER, TOKENS, staged
from tests.storage.database import opened


async def carried(engine: AsyncEngine, runner: JobRunner, order: int) -> tuple[Job, asyncio.Task[Called]]:
    """A job of one call that is put down and carried."""
    asked = Asked(
        request_id="request-1",
        caller=SERVICE,
        operation=LINK,
        query=b"",
        has_body=False,
        token_names=(),
        wait=60,
        arrived=time.monotonic(),
        call_id=new_id(),
    )
    new = replace(new_job([order]), kind=JobKind.CALL, priority=Priority.INTERACTIVE)
    assert asked.call_id
    with runner.expecting(asked.call_id):
        async with writing(engine) as connection:
            job, part = await runner.put_down(connection, new, asked.call_id, uncertain=False)
        return job, runner.carry(job, part, asked)


async def test_a_call_is_under_way_at_once(database: str) -> None:
    """Its job runs when it is carried, and ends with its answer."""
    async with opened(database) as engine, running(engine) as (runner, played):
        job, making = await carried(engine, runner, 1)
        await played.under_way(1)
        played.end(answered)
        called = await making
        end = await finished(engine, job)

        assert (job.kind, job.state) == (JobKind.CALL, JobState.RUNNING)
        assert called.answer.result == (1,)
        assert (end.state, end.counts.linked) == (JobState.SUCCEEDED, 1)


async def test_turns_beside_it_send_nothing_twice(database: str) -> None:
    """Whenever a turn takes up what is new, the calls that were begun without it are neither sent again nor looked for on record."""
    async with opened(database) as engine, running(engine) as (runner, played):
        found = []
        for order in range(1, 21):
            runner.wake()
            found.append((await carried(engine, runner, order))[0])
        batch = await added(engine, new_job(range(100, 110)))
        runner.wake()
        await played.under_way(24)
        played.end(answered)
        ends = [await finished(engine, job) for job in (*found, batch)]

        assert {end.state for end in ends} == {JobState.SUCCEEDED}
        assert len({part.call_id for part in played.sent}) == len(played.sent) == 24
        assert played.asked == []


async def test_a_call_that_waits_again_is_taken_with_a_turn(database: str) -> None:
    """One that couldn't be made is made again, as any part is, and has an end."""
    async with opened(database) as engine, running(engine) as (runner, played):
        job, making = await carried(engine, runner, 1)
        await played.under_way(1)
        played.end(Again)
        called = await making
        await played.under_way(1)
        played.end(answered)
        end = await finished(engine, job)

        assert isinstance(called.verdict, Again)
        assert end.state is JobState.SUCCEEDED
        assert len(played.sent) == 2


async def test_a_cancelled_call_isnt_wanted_any_more(database: str) -> None:
    """At its turn it is told that nobody wants it."""
    async with opened(database) as engine, running(engine) as (runner, played):
        await carried(engine, runner, 1)
        job, _ = await carried(engine, runner, 2)
        await played.under_way(2)
        await cancel(engine, runner, job)
        wanted = played.may_send[str(played.sent[1].call_id)]
        async with asyncio.timeout(10):
            while wanted():
                await asyncio.sleep(0.01)
        played.end(Again)
        end = await finished(engine, job)

        assert (end.state, end.counts.cancelled) == (JobState.CANCELLED, 1)


async def test_a_cancelled_call_isnt_wanted_from_that_moment_on(database: str) -> None:
    """Not only from the runner's next turn on: when the cancellation is answered, nothing more goes out."""
    async with opened(database) as engine, running(engine) as (runner, played):
        job, _ = await carried(engine, runner, 1)
        await played.under_way(1)
        wanted = played.may_send[str(played.sent[0].call_id)]
        async with asyncio.timeout(10):
            while not wanted():
                await asyncio.sleep(0.01)
        runner.cancel(job.id)
        after = wanted()
        played.end(answered)
        await finished(engine, job)

        assert not after


async def test_a_call_whose_lease_ran_out_before_it_was_carried_waits_for_the_next(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was held up in between may have lost the job, whatever other leases it has renewed; it sends when it has this one."""
    monkeypatch.setattr(app.jobbing, "LEASE_SECONDS", 0.0)
    async with opened(database) as engine, running(engine) as (runner, played):
        runner._held_until = math.inf
        job, _ = await carried(engine, runner, 1)
        await played.under_way(1)
        wanted = played.may_send[str(played.sent[0].call_id)]
        before = wanted()
        runner._due = True
        runner.wake()
        async with asyncio.timeout(10):
            while not wanted():
                await asyncio.sleep(0.01)
        played.end(answered)
        await finished(engine, job)

        assert not before


async def test_a_call_that_was_put_down_and_not_carried_is_taken_up(database: str) -> None:
    """If the request ends between the two, the record is asked what became of the call, as after a death."""
    async with opened(database) as engine, running(engine) as (runner, played):
        new = replace(new_job([1], lasts=timedelta(hours=1)), kind=JobKind.CALL)
        with runner.expecting("lost"):
            async with writing(engine) as connection:
                job, _ = await runner.put_down(connection, new, "lost", uncertain=False)
        runner.wake()
        end = await finished(engine, job)

        assert [part.call_id for part in played.asked] == ["lost"]
        assert end.state is JobState.SUCCEEDED
        assert (await job_of(engine, job)).finished


async def shown(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """The job at that address."""
    return (await client.get(url)).raise_for_status().json()  # type: ignore[no-any-return]


async def test_a_job_outlives_its_process(tmp_path: Path) -> None:
    """A call that was answered with a job and then killed amid its send is made again by the next process, and the job says so."""
    async with staged(tmp_path) as stage:
        hanging = {"kind": "latency", "back": 60.0, "holding": FIRST_ORDER}
        faults = f"{stage.upstream}/_simulator/faults"
        loopback.delete(faults).raise_for_status()
        loopback.post(faults, json=[hanging]).raise_for_status()
        token = next(iter(TOKENS))
        given = {"Authorization": f"Bearer {stage.keys[0]}", "Gateway-Token": token, "Prefer": "respond-async"}
        async with loopback.async_client(headers=given) as client:
            with stage.gateway() as gateway:
                await asyncio.to_thread(gateway.wait_for, f"{stage.url}/gateway/health/ready")
                answer = await client.patch(f"{stage.url}/orders/link?orderIds={FIRST_ORDER}")
                await asyncio.to_thread(processes.until, lambda: stage.targets()[token])
            loopback.delete(faults).raise_for_status()
            with stage.gateway() as gateway:
                await asyncio.to_thread(gateway.wait_for, f"{stage.url}/gateway/health/ready")
                async with asyncio.timeout(20):
                    while not (job := await shown(client, stage.url + answer.headers["Location"]))["finished_at"]:
                        await asyncio.sleep(0.05)

        assert answer.status_code == 202
        assert (job["kind"], job["state"], job["uncertain"]) == ("call", "succeeded", True)
        assert len(stage.targets()[token]) == 2
