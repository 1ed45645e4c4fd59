"""Followers of jobs: each has the newest, in bounded numbers, whoever carries the job out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.catalogue import load_catalogue
from app.domain import Caller, Priority, TokenKind, TokenRef
from app.errors import CallerRateExceeded, GatewayError, ShuttingDown, TooManyFollowers
from app.jobs import Counts, Follower, Followers, Job, JobState, JobStore, NewJob
from app.storage import writing
from app.storage.tables import jobs
from tests.rig import settings_for, until
from tests.storage.database import opened

CATALOGUE = load_catalogue(settings_for(Path()).catalogue)
EXPIRES = "2999-01-01T00:00:00.000000+00:00"


class FixedLanes:
    """Every send takes a second."""

    def wait_behind_interactive(self, token_id: str, operation: str, sends: int) -> float | None:  # noqa: ARG002 - as the lanes have it
        """So many seconds as sends."""
        return float(sends)


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A gateway's database."""
    async with opened(database) as engine:
        yield engine


async def stored(engine: AsyncEngine, caller: str = "caller") -> Job:
    """A new job of 120 orders that is on disk."""
    operation = CATALOGUE["link-orders"]
    new = NewJob(
        caller=Caller(caller, caller, "key"),
        operation=operation,
        parameter=operation.parameters[0],
        ids=range(1, 121),
        token=TokenRef("token", "shop", TokenKind.ACCOUNT),
        priority=Priority.BATCH,
        request_id="request",
        expires_at=EXPIRES,
    )
    async with writing(engine) as connection:
        return await JobStore().add(connection, new)


async def change(engine: AsyncEngine, job: Job, **values: Any) -> None:
    """What another process does to a job's row."""
    async with writing(engine) as connection:
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))


async def rename(engine: AsyncEngine, table: str, name: str) -> None:
    """Take a table away, or bring it back."""
    async with writing(engine) as connection:
        await connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


def answered(job: Job, count: int, state: JobState = JobState.RUNNING) -> Job:
    """The job when so many of its IDs are answered."""
    return replace(job, state=state, counts=Counts(total=job.counts.total, answered=count))


async def newest(follower: Follower) -> Job:
    """The next that a follower is given."""
    async with asyncio.timeout(10):
        snapshot = await follower.newest()
    assert snapshot is not None
    return snapshot.job


@asynccontextmanager
async def followers_of(engine: AsyncEngine, **bounds: int) -> AsyncIterator[Followers]:
    """Those of a running gateway."""
    followers = Followers(engine, CATALOGUE, FixedLanes(), **bounds)
    async with followers.kept():
        yield followers


# --- the newest


async def test_a_slow_follower_misses_what_came_between(engine: AsyncEngine) -> None:
    """However much happened while it looked elsewhere, the newest is all that there is for it."""
    job = await stored(engine)
    followers = Followers(engine, CATALOGUE, FixedLanes())
    with followers.follow(job, None, seen=None) as follower:
        first = await newest(follower)
        for count in range(1, 101):
            followers.changed(answered(job, count))
        followers.changed(answered(job, 120, JobState.SUCCEEDED))
        last, over = await newest(follower), await follower.newest()

    assert (first.counts.answered, last.counts.answered, over) == (0, 120, None)


async def test_changes_in_short_order_are_shown_together(engine: AsyncEngine) -> None:
    """The first is shown at once, and what follows it within a quarter of a second as one."""
    job = await stored(engine)
    followers = Followers(engine, CATALOGUE, FixedLanes())
    with followers.follow(job, None, seen=None) as follower:
        seen = [(await newest(follower)).counts.answered]
        followers.changed(answered(job, 1))
        seen.append((await newest(follower)).counts.answered)
        for count in (2, 3, 4):
            followers.changed(answered(job, count))
        seen.append((await newest(follower)).counts.answered)

    assert seen == [0, 1, 4]


async def test_what_is_older_is_passed_over(engine: AsyncEngine) -> None:
    """Two ways lead to a follower, and what the slower one brings is known already."""
    job = await stored(engine)
    followers = Followers(engine, CATALOGUE, FixedLanes())
    with followers.follow(job, None, seen=None) as follower:
        followers.changed(answered(job, 50))
        followers.changed(answered(job, 10))

        assert (await newest(follower)).counts.answered == 50


async def test_a_change_is_put_into_text_once(engine: AsyncEngine) -> None:
    """All followers of a job share it."""
    job = await stored(engine)
    followers, made = Followers(engine, CATALOGUE, FixedLanes()), []
    with ExitStack() as stack:
        for _ in range(10):
            follower = stack.enter_context(followers.follow(job, None, seen=None))
            snapshot = await follower.newest()
            assert snapshot is not None
            snapshot.text(lambda one: made.append(one.mark) or b"text")  # type: ignore[func-returns-value]

    assert len(made) == 1


# --- another process, or none


async def test_a_job_that_another_process_carries_out_is_followed(engine: AsyncEngine) -> None:
    """Its row is read, and what stands before its end."""
    job = await stored(engine)
    async with followers_of(engine) as followers:
        with followers.follow(job, None, seen=None) as follower:
            await newest(follower)
            await change(engine, job, state="running", started_at=EXPIRES, answered=50)
            running = await newest(follower)
            await change(engine, job, answered=60)
            async with asyncio.timeout(10):
                further = await follower.newest()
            await change(engine, job, state="succeeded", answered=120)
            ended = await newest(follower)

    assert further is not None
    assert (running.counts.answered, further.job.counts.answered, further.ends_in) == (50, 60, 2.0)
    assert ended.finished


async def test_who_follows_goes_on_while_the_database_cant_be_read(engine: AsyncEngine) -> None:
    """It is logged, what is told is shown all the same, and later the row is read again."""
    job = await stored(engine)
    with capture_logs() as logged:
        async with followers_of(engine) as followers:
            with followers.follow(job, None, seen=None) as follower:
                await newest(follower)
                await rename(engine, "jobs", "jobs_away")

                async def failed() -> bool:
                    return "jobs that are followed can't be read; trying again" in [one["event"] for one in logged]

                await until(failed)
                followers.changed(answered(job, 10))
                told = await newest(follower)
                await rename(engine, "jobs_away", "jobs")
                await change(engine, job, answered=50)
                read = await newest(follower)

    assert (told.counts.answered, read.counts.answered) == (10, 50)


async def test_a_change_while_one_begins_to_follow_isnt_missed(engine: AsyncEngine) -> None:
    """What changed between the reading of the job and the following is read again."""
    job = await stored(engine)
    await change(engine, job, answered=50)
    async with followers_of(engine) as followers:
        with followers.follow(job, None, seen=None) as follower:
            jobs_seen = [await newest(follower), await newest(follower)]

    assert [one.counts.answered for one in jobs_seen] == [0, 50]


async def test_nothing_more_comes_of_a_job_that_is_gone(engine: AsyncEngine) -> None:
    """Its followers are told so, and nothing is kept of them."""
    job = await stored(engine)
    async with followers_of(engine) as followers:
        with followers.follow(job, None, seen=None) as follower:
            await newest(follower)
            async with writing(engine) as connection:
                await connection.execute(jobs.delete().where(jobs.c.id == job.id))
            async with asyncio.timeout(10):
                gone = await follower.newest()

        assert (gone, followers.count) == (None, 0)


# --- how many, and how long


async def test_so_many_of_a_callers_and_in_all_may_follow(engine: AsyncEngine) -> None:
    """Those beyond are refused with when to try again; there is room for another as soon as one goes."""
    job, other, third = [await stored(engine, name) for name in ("one", "other", "third")]
    followers = Followers(engine, CATALOGUE, FixedLanes(), most_of_caller=2, most=3)
    refused: list[GatewayError] = []
    with ExitStack() as stack:
        for one in (job, job, other):
            stack.enter_context(followers.follow(one, None, seen=None))
        for one in (job, third):
            with pytest.raises((CallerRateExceeded, TooManyFollowers)) as error:
                stack.enter_context(followers.follow(one, None, seen=None))
            refused.append(error.value)
    with followers.follow(job, None, seen=None):
        count = followers.count

    assert [(one.http_status, one.code) for one in refused] == [(429, "caller-rate-exceeded"), (503, "too-many-followers")]
    assert all(one.retry_after for one in refused)
    assert (count, followers.count) == (1, 0)


async def test_at_shutdown_all_are_let_go(engine: AsyncEngine) -> None:
    """Who waits is told that nothing more comes, and nobody begins to follow."""
    job = await stored(engine)
    followers = Followers(engine, CATALOGUE, FixedLanes())
    with followers.follow(job, None, seen=None) as follower:
        await newest(follower)
        waiting = asyncio.create_task(follower.newest())
        await asyncio.sleep(0)
        followers.close()
        told = await waiting
    with pytest.raises(ShuttingDown), followers.follow(job, None, seen=None):
        pass

    assert told is None
