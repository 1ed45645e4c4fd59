from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from app.jobs import HeldJobs, Job, JobState, JobStore, Part, PartEnd, PartState
from app.jobs.turn import lease_from_now
from app.storage import Dialect, writing
from tests.jobs.rows import added, at, job_of, new_job, parts_of
from tests.storage.database import migrated, opened

MINUTE = timedelta(minutes=1)
OURS, THEIRS = HeldJobs("us"), HeldJobs("them")


async def claimed(engine: AsyncEngine, held: HeldJobs, lasts: timedelta = MINUTE, *, alone: bool = False) -> list[str]:
    """The IDs of the jobs that a process holds after it has looked for some."""
    async with writing(engine) as connection:
        return list(await held.claim(connection, lease_until=at(lasts), alone=alone))


async def taken(engine: AsyncEngine, job: Job, held: HeldJobs = OURS) -> list[Part]:
    """All parts of a job, those that wait under way with calls of their own."""
    parts = [replace(part, call_id=f"call-{part.seq}", state=PartState.TAKEN) for part in await parts_of(engine, job)]
    async with writing(engine) as connection:
        for part in parts:
            await held.take(connection, part)
    return parts


async def ended(engine: AsyncEngine, ends: Sequence[PartEnd], held: HeldJobs = OURS) -> None:
    """Write down how parts ended."""
    async with writing(engine) as connection:
        for end in ends:
            await held.end(connection, end)


async def finished(engine: AsyncEngine, job: Job) -> bool:
    """Whether the job could be ended."""
    async with writing(engine) as connection:
        return await OURS.finish(connection, job)


async def test_a_job_is_held_by_one_process_until_its_lease_ends(database: str) -> None:
    """Then another takes it over, and the first finds it gone."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1]))

        assert await claimed(engine, OURS, -MINUTE) == [job.id]
        assert await claimed(engine, THEIRS) == [job.id]
        assert await claimed(engine, OURS) == []


async def test_who_looks_for_new_jobs_sees_no_others(database: str) -> None:
    """Those that nobody holds are taken, and those of one's own that are to be cancelled are seen; the rest isn't read, nor renewed."""
    async with opened(database) as engine:
        held, cancelled, theirs = [await added(engine, new_job([1])) for _ in range(3)]
        async with writing(engine) as connection:
            for job, owner in ((held, OURS), (cancelled, OURS), (theirs, THEIRS)):
                await owner.hold(connection, job, lease_until=at(MINUTE))
            await JobStore().ask_to_cancel(connection, cancelled.id)
        new = await added(engine, new_job([1]))
        async with writing(engine) as connection:
            found = await OURS.claim_new(connection, lease_until=at(-MINUTE))

        assert [(job.id, job.cancelling) for job in found] == [(cancelled.id, True), (new.id, False)]
        assert await claimed(engine, THEIRS) == [cancelled.id, theirs.id, new.id]


async def test_who_is_alone_takes_what_a_dead_process_held(database: str) -> None:
    """Whatever the dead one's lease says."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1]))
        await claimed(engine, THEIRS)

        assert await claimed(engine, OURS) == []
        assert await claimed(engine, OURS, alone=True) == [job.id]


@pytest.mark.parametrize("database", [Dialect.POSTGRESQL], indirect=True)
async def test_a_lease_lasts_by_the_servers_clock(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose own clock is a minute ahead of the others' takes nothing that another holds."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1]))
        async with writing(engine) as connection:
            held = await OURS.claim(connection, lease_until=await lease_from_now(connection), alone=False)
        monkeypatch.setattr("app.jobs.holding.utc_now", lambda: at(MINUTE))
        taken_by_others = await claimed(engine, THEIRS)

    assert list(held) == [job.id]
    assert taken_by_others == []


async def test_what_is_given_up_is_free_at_once(database: str) -> None:
    """A process that ends in order lets others go on without a wait."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1]))
        await claimed(engine, OURS)
        async with writing(engine) as connection:
            await OURS.release(connection)

        assert await claimed(engine, THEIRS) == [job.id]


async def test_a_process_that_lost_a_job_changes_nothing_of_it(database: str) -> None:
    """It takes no part, ends none, halves none, drops none and doesn't end the job."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1, 2, 3, 4, 5, 6]))
        await claimed(engine, OURS, -MINUTE)
        first, _ = await taken(engine, job)
        await claimed(engine, THEIRS)
        before = await parts_of(engine, job)
        await ended(engine, [PartEnd(part=first, state=PartState.ANSWERED, linked=(1,))])
        async with writing(engine) as connection:
            await OURS.split(connection, first)
            await OURS.drop_waiting(connection, job.id, PartState.CANCELLED)
            assert not await OURS.take(connection, replace(first, call_id="other"))

        assert await parts_of(engine, job) == before
        assert (await job_of(engine, job)).counts.ended == 0


async def test_the_end_of_another_call_doesnt_count(database: str) -> None:
    """A part that was sent anew ends with its latest call, and once."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1, 2, 3]))
        await claimed(engine, OURS)
        [part] = await taken(engine, job)
        await ended(engine, [PartEnd(part=replace(part, call_id="before"), state=PartState.FAILED)])
        await ended(engine, [PartEnd(part=part, state=PartState.ANSWERED, linked=(2,), uncertain=True)] * 2)
        counts = (await job_of(engine, job)).counts

        assert (counts.answered, counts.failed, counts.linked) == (3, 0, 1)
        assert (await job_of(engine, job)).uncertain


async def test_a_list_is_halved_in_its_place(database: str) -> None:
    """The halves have all of its IDs, wait, come after all others, and stay uncertain where it was."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1, 2, 3]))
        await claimed(engine, OURS)
        [part] = await taken(engine, job)
        async with writing(engine) as connection:
            await OURS.split(connection, replace(part, uncertain=True))
        halves = await parts_of(engine, job)

        assert [one.ids for one in halves] == [(1, 2), (3,)]
        assert all(one.state is PartState.WAITING and one.uncertain and one.seq > part.seq for one in halves)


@pytest.mark.parametrize(
    ("ends", "dropped", "lasts", "state"),
    [
        ("aa", None, MINUTE, JobState.SUCCEEDED),
        ("af", None, MINUTE, JobState.PARTLY_FAILED),
        ("ff", None, MINUTE, JobState.FAILED),
        ("a", PartState.CANCELLED, MINUTE, JobState.CANCELLED),
        ("a", PartState.EXPIRED, -MINUTE, JobState.EXPIRED),
        ("aa", None, -MINUTE, JobState.SUCCEEDED),
    ],
)
async def test_a_jobs_end_follows_from_those_of_its_parts(
    database: str, ends: str, dropped: PartState | None, lasts: timedelta, state: JobState
) -> None:
    """Nothing of it waits then, every ID is counted, and nobody holds it any more."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1, 2, 3, 4, 5], lasts=lasts))
        await claimed(engine, OURS)
        states = [{"a": PartState.ANSWERED, "f": PartState.FAILED}[one] for one in ends]
        parts = (await parts_of(engine, job))[: len(states)]
        under_way = [replace(part, call_id="call", state=PartState.TAKEN) for part in parts]
        async with writing(engine) as connection:
            for part in under_way:
                await OURS.take(connection, part)
        assert not await finished(engine, job)
        await ended(engine, [PartEnd(part=part, state=one) for part, one in zip(under_way, states, strict=True)])
        if dropped:
            async with writing(engine) as connection:
                await OURS.drop_waiting(connection, job.id, dropped)

        assert await finished(engine, job)
        end = await job_of(engine, job)
        assert (end.state, end.counts.ended) == (state, 5)
        assert end.finished_at is not None
        assert await claimed(engine, THEIRS, alone=True) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["answered", "failed", "again", "halves", "twice"]), min_size=1, max_size=30))
async def test_no_id_is_lost_and_none_is_counted_twice(tmp_path_factory: pytest.TempPathFactory, fates: list[str]) -> None:
    """Whatever befalls its parts, in whatever order, each ID stands in one part, and the counts are those of the parts that ended."""
    ids = list(range(1, 8))
    async with migrated(tmp_path_factory.mktemp("state") / "gateway.db") as engine:
        job = await added(engine, new_job(ids))
        await claimed(engine, OURS)
        for number, fate in enumerate(fates):
            waiting = [part for part in await parts_of(engine, job) if part.state is PartState.WAITING]
            if not waiting:
                break
            await _meet(engine, replace(waiting[number % len(waiting)], call_id=f"call-{number}", state=PartState.TAKEN), fate)
        parts, counts = await parts_of(engine, job), (await job_of(engine, job)).counts

        assert sorted(one for part in parts for one in part.ids) == ids
        assert counts.answered == sum(len(part.ids) for part in parts if part.state is PartState.ANSWERED)
        assert counts.failed == sum(len(part.ids) for part in parts if part.state is PartState.FAILED)


async def _meet(engine: AsyncEngine, part: Part, fate: str) -> None:
    state = {"failed": PartState.FAILED, "again": PartState.WAITING}.get(fate, PartState.ANSWERED)
    async with writing(engine) as connection:
        assert await OURS.take(connection, part)
        if fate == "halves" and len(part.ids) > 1:
            await OURS.split(connection, part)
        for _ in range(2 if fate == "twice" else 1):
            await OURS.end(connection, PartEnd(part=part, state=state))
