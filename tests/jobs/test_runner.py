"""The runner, with calls that a test ends as it likes, on real rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from sqlalchemy import String, cast, event, literal, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import app.jobbing
from app.domain import Asked
from app.errors import DeadlineExceeded, UpstreamBadRequest, UpstreamError
from app.gateway import Answer
from app.jobbing import UNDER_WAY, JobRunner
from app.jobcalls import Called
from app.jobs import HeldJobs, Job, JobState, JobStore, Part, PartEnd, PartState
from app.jobs.conclusion import Again, Verdict, concluded
from app.jobs.turn import MOST_BEGUN, MOST_LOOKED_UP, MOST_SETTLED, PAGE_PARTS, Turn
from app.storage import writing
from app.storage.tables import job_parts
from tests.jobs.rows import DESK, LINK, SHOP, added, at, job_of, new_job, parts_of
from tests.rig import until
from tests.storage.database import opened

OUT_OF_ORDER = UpstreamError("out of order", uncertain=True, upstream_status=503)


@dataclass
class Played:
    """Calls that wait until the test ends them; `asked` are the parts whose end the record was asked for."""

    open: dict[str, tuple[Part, asyncio.Future[Verdict]]] = field(default_factory=dict)
    sent: list[Part] = field(default_factory=list)
    asked: list[Part] = field(default_factory=list)
    may_send: dict[str, Callable[[], bool]] = field(default_factory=dict)
    by_itself: Callable[[Part], Verdict] | None = None

    async def send(self, job: Job, part: Part, may_send: Callable[[str], bool]) -> Verdict:
        """Wait for the test, unless it has said how calls end."""
        self.sent.append(part)
        assert part.call_id
        self.may_send[part.call_id] = lambda: may_send(job.id)
        if self.by_itself:
            return self.by_itself(part)
        end: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.open[part.call_id] = part, end
        return await end

    async def make(self, job: Job, part: Part, asked: Asked) -> Called:
        """The same, of a call that is one job."""
        return Called(await self.send(job, part, lambda _: asked.wanted()), Answer(part.ids, None))

    async def ask(self, _job: Job, part: Part, _is_halted: Callable[[str], bool]) -> Verdict:
        """The record says that it was answered."""
        self.asked.append(part)
        return answered(part)

    def end(self, how: Callable[[Part], Verdict], most: int = 1_000) -> None:
        """Have the calls that are under way end so."""
        for call_id in list(self.open)[:most]:
            part, end = self.open.pop(call_id)
            end.set_result(how(part))

    async def under_way(self, count: int) -> None:
        """Wait until so many calls are."""

        async def reached() -> bool:
            return len(self.open) >= count

        await until(reached)


def answered(part: Part) -> PartEnd:
    """All of it was linked."""
    return PartEnd(part=part, state=PartState.ANSWERED, linked=part.ids, uncertain=part.uncertain)


@asynccontextmanager
async def running(engine: AsyncEngine, *, alone: bool = True) -> AsyncIterator[tuple[JobRunner, Played]]:
    """A runner; at the end its calls are ended as by a shutdown."""
    played = Played()
    runner = JobRunner(engine, played, alone=alone)
    async with runner.kept():
        yield runner, played
    played.end(Again)
    await runner.finish()


async def finished(engine: AsyncEngine, job: Job) -> Job:
    """The job, once it is finished."""

    async def is_finished() -> bool:
        return (await job_of(engine, job)).finished

    await until(is_finished)
    return await job_of(engine, job)


async def cancel(engine: AsyncEngine, runner: JobRunner, job: Job) -> None:
    """Have nothing more of the job sent."""
    async with writing(engine) as connection:
        await JobStore().ask_to_cancel(connection, job.id)
    runner.wake()


async def test_every_part_is_sent_once(database: str) -> None:
    """Over many pages, with never more than a few under way."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 301)))
        async with running(engine) as (_, played):
            await played.under_way(UNDER_WAY)
            assert len(played.open) == UNDER_WAY
            played.by_itself = answered
            played.end(answered)
            end = await finished(engine, job)

        assert end.state is JobState.SUCCEEDED
        assert (end.counts.answered, end.counts.linked) == (300, 300)
        assert sorted(part.seq for part in played.sent) == list(range(1, 101))


async def test_jobs_of_one_caller_with_one_token_take_turns(database: str) -> None:
    """They share the bound on what is under way; one with another token has its own."""
    async with opened(database) as engine:
        first, second = await added(engine, new_job(range(1, 100))), await added(engine, new_job(range(1, 100)))
        other = await added(engine, new_job(range(1, 100), token=DESK))
        async with running(engine) as (_, played):
            await played.under_way(2 * UNDER_WAY)

            shares = [sum(part.job_id == job.id for part in played.sent) for job in (first, second, other)]
            assert shares == [UNDER_WAY / 2, UNDER_WAY / 2, UNDER_WAY]
            for _ in range(4):
                played.end(answered, most=1)
                await played.under_way(2 * UNDER_WAY)
            shares = [sum(part.job_id == job.id for part in played.sent) for job in (first, second)]
            assert abs(shares[0] - shares[1]) <= 1


async def test_a_new_job_is_taken_at_once(database: str) -> None:
    """Also one that comes while a turn is under way."""
    async with opened(database) as engine, running(engine) as (runner, played):
        for number in range(1, 4):
            await added(engine, new_job([number]))
            runner.wake()
            await played.under_way(number)

        assert len(played.sent) == 3


async def test_a_new_job_has_no_other_read(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are open: the lease of those, and all else of them, is left until it is due."""
    claims: list[str] = []
    claim = HeldJobs.claim

    async def counted(held: HeldJobs, connection: AsyncConnection, *, lease_until: str, alone: bool) -> dict[str, tuple[bool, str]]:
        claims.append(lease_until)
        return await claim(held, connection, lease_until=lease_until, alone=alone)

    monkeypatch.setattr(HeldJobs, "claim", counted)
    monkeypatch.setattr(app.jobbing, "LEASE_SECONDS", 3_600.0)
    async with opened(database) as engine, running(engine) as (runner, played):

        async def has_looked() -> bool:
            return runner._held_until > 0

        await until(has_looked)
        for number in range(1, 4):
            await added(engine, new_job([number]))
            runner.wake()
            await played.under_way(number)

        assert claims == []


async def test_a_refused_id_is_found(database: str) -> None:
    """The list that holds it is halved until it stands alone; all others are answered."""

    def refuse(part: Part) -> Verdict:
        return concluded(part, UpstreamBadRequest("no") if 5 in part.ids else part.ids, uncertain=False)

    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 10)))
        async with running(engine) as (_, played):
            played.by_itself = refuse
            await played.under_way(0)
            end = await finished(engine, job)
        failed = [part.ids for part in await parts_of(engine, job) if part.state is PartState.FAILED]

        assert (end.state, end.counts.answered, failed) == (JobState.PARTLY_FAILED, 8, [(5,)])


async def test_a_cancelled_job_sends_nothing_more(database: str) -> None:
    """What waits in the queue may not be sent; what was sent comes to its end, and is counted."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        async with running(engine) as (runner, played):
            await played.under_way(UNDER_WAY)
            assert all(may() for may in played.may_send.values())
            await cancel(engine, runner, job)

            async def told() -> bool:
                return not any(may() for may in played.may_send.values())

            await until(told)
            played.end(answered, most=1)
            played.end(lambda part: concluded(part, DeadlineExceeded("given up"), uncertain=False))
            end = await finished(engine, job)

        assert end.state is JobState.CANCELLED
        assert (end.counts.answered, end.counts.cancelled) == (3, 57)
        assert len(played.sent) == UNDER_WAY


async def test_a_job_that_another_process_was_told_to_cancel_sends_nothing_more(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who carries it out sees that at its next look, long before its lease is to be renewed."""
    monkeypatch.setattr(app.jobbing, "LEASE_SECONDS", 3_600.0)
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        async with running(engine, alone=False) as (runner, played):
            await played.under_way(UNDER_WAY)
            runner._held_until += 3_600.0
            async with writing(engine) as connection:
                await JobStore().ask_to_cancel(connection, job.id)

            async def told() -> bool:
                return not any(may() for may in played.may_send.values())

            await until(told)
            played.end(Again)
            end = await finished(engine, job)

        assert (end.state, end.counts.cancelled) == (JobState.CANCELLED, 60)


async def test_others_jobs_cost_a_process_no_turn(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds none doesn't ask for the lock on writing while others hold all that are open; what is let go it takes up."""
    looks, any_for = list[bool](), HeldJobs.any

    async def counted(held: HeldJobs, connection: AsyncConnection, *, alone: bool) -> bool:
        looks.append(await any_for(held, connection, alone=alone))
        return looks[-1]

    async with opened(database) as engine:
        await added(engine, new_job(range(1, 61)))
        other = HeldJobs("other")
        async with writing(engine) as connection:
            await other.claim(connection, lease_until=at(timedelta(minutes=1)), alone=False)
        monkeypatch.setattr(HeldJobs, "any", counted)
        async with running(engine, alone=False) as (_, played):

            async def has_looked() -> bool:
                return len(looks) > 1

            await until(has_looked)
            held = list(looks)
            async with writing(engine) as connection:
                await other.release(connection)
            await played.under_way(1)

        assert not any(held)


async def test_a_job_expires(database: str) -> None:
    """What wasn't sent by then isn't."""
    async with opened(database) as engine:
        job = await added(engine, new_job([1, 2, 3], lasts=-timedelta(seconds=1)))
        async with running(engine) as (_, played):
            end = await finished(engine, job)

        assert (end.state, end.counts.failed) == (JobState.EXPIRED, 3)
        assert not played.sent


async def test_an_outage_is_survived(database: str) -> None:
    """While the upstream is out of order one call at a time finds out; then the job goes on, and what is uncertain is marked."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        async with running(engine) as (_, played):
            await played.under_way(UNDER_WAY)
            played.end(lambda part: concluded(part, OUT_OF_ORDER, uncertain=False))
            await played.under_way(1)
            assert len(played.sent) == UNDER_WAY + 1
            played.by_itself = answered
            played.end(answered)
            end = await finished(engine, job)
        uncertain = [part.seq for part in await parts_of(engine, job) if part.uncertain]

        assert (end.state, end.counts.answered, end.uncertain) == (JobState.SUCCEEDED, 60, True)
        assert uncertain == list(range(1, UNDER_WAY + 1))


async def test_a_probe_goes_out_beside_another_operations_calls(database: str) -> None:
    """What pauses one operation, and whether it is well again, isn't a matter of how many calls of another are under way."""
    other = replace(LINK, id="link-items")
    async with opened(database) as engine:
        paused = await added(engine, new_job([1, 2]))
        async with running(engine) as (runner, played):
            await played.under_way(1)
            await added(engine, new_job([3], operation=other))
            runner.wake()
            await played.under_way(2)
            played.end(lambda part: concluded(part, OUT_OF_ORDER, uncertain=False), most=1)
            await played.under_way(2)

        assert [part.job_id for part in played.sent if part.ids == (1, 2)] == [paused.id] * 2


async def test_a_defect_fails_its_part_and_no_other(database: str) -> None:
    """Nothing is known of such a call, so it isn't made again."""

    def fail(part: Part) -> Verdict:
        if part.seq == 2:
            raise ZeroDivisionError
        return answered(part)

    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 10)))
        async with running(engine) as (_, played):
            played.by_itself = fail
            end = await finished(engine, job)

        assert (end.state, end.counts.answered, end.counts.failed, end.uncertain) == (JobState.PARTLY_FAILED, 6, 3, True)
        assert len(played.sent) == 3


async def test_what_ends_while_the_store_fails_is_written_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No end is lost, nothing is sent twice, and the runner goes on by itself."""
    monkeypatch.setattr(app.jobbing, "RETRY_SECONDS", 0.05)
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        async with running(engine) as (_, played):
            await played.under_way(UNDER_WAY)
            failures = 0

            def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
                nonlocal failures
                if statement.startswith("UPDATE job_parts"):
                    failures += 1
                    raise OperationalError(statement, None, OSError())

            async def failed_thrice() -> bool:
                return failures >= 3

            event.listen(engine.sync_engine, "before_cursor_execute", fail)
            played.end(answered)
            await until(failed_thrice)
            event.remove(engine.sync_engine, "before_cursor_execute", fail)
            played.by_itself = answered
            end = await finished(engine, job)

        assert (end.state, end.counts.answered) == (JobState.SUCCEEDED, 60)
        assert sorted(part.seq for part in played.sent) == list(range(1, 21))


async def test_a_shutdown_gives_jobs_up_as_they_are(database: str) -> None:
    """What waited in the queue waits again; the next process goes on at once, and asks the record for nothing."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        async with running(engine) as (_, played):
            await played.under_way(UNDER_WAY)
            played.end(answered, most=2)
        between = await parts_of(engine, job)
        async with running(engine, alone=False) as (_, next_played):
            next_played.by_itself = answered
            end = await finished(engine, job)

        assert {part.state for part in between} == {PartState.WAITING, PartState.ANSWERED}
        assert not next_played.asked
        assert (end.state, end.counts.answered) == (JobState.SUCCEEDED, 60)


async def test_the_record_is_asked_for_what_a_dead_process_had_under_way(database: str) -> None:
    """By the call's ID; nothing that it knows the end of is sent again."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        dead = Played()
        async with JobRunner(engine, dead, alone=True).kept():
            await dead.under_way(UNDER_WAY)
        async with running(engine) as (_, played):
            played.by_itself = answered
            end = await finished(engine, job)
        dead.end(answered)

        assert {part.call_id for part in played.asked} == {part.call_id for part in dead.sent}
        assert {part.seq for part in played.sent}.isdisjoint(part.seq for part in dead.sent)
        assert (end.state, end.counts.answered) == (JobState.SUCCEEDED, 60)


async def test_a_process_that_was_held_up_doesnt_go_on_beside_its_successor(database: str) -> None:
    """Once its lease has run out its calls may not be sent; what it learns of them changes nothing."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 61)))
        async with running(engine) as (paused, played):
            await played.under_way(UNDER_WAY)
            await _overtaken(engine, paused)
            async with running(engine, alone=False) as (_, successor):
                await successor.under_way(1)

                async def noticed() -> bool:
                    return not any(may() for may in played.may_send.values())

                paused._due = True
                paused.wake()
                await until(noticed)
                played.end(lambda part: PartEnd(part=part, state=PartState.FAILED))
                successor.by_itself = answered
                successor.end(answered)
                end = await finished(engine, job)

        assert (end.state, end.counts.answered, end.counts.failed) == (JobState.SUCCEEDED, 60, 0)


async def _overtaken(engine: AsyncEngine, runner: JobRunner) -> None:
    """Have the runner's leases run out, as if it had been held up for longer than they last."""
    runner._held_until += 60  # it renews none until that is due
    async with writing(engine) as connection:
        await runner._held.claim(connection, lease_until=at(-timedelta(minutes=1)), alone=False)


async def test_nothing_is_sent_once_a_lease_has_run_out(database: str) -> None:
    """Not even while nobody else has taken the job over."""
    async with opened(database) as engine:
        await added(engine, new_job(range(1, 61)))
        async with running(engine) as (runner, played):
            await played.under_way(UNDER_WAY)
            runner._held_until = 0.0

            assert not any(may() for may in played.may_send.values())


async def test_a_turn_begins_a_bounded_number_of_parts(database: str) -> None:
    """The next one follows at once, until every token has its calls."""
    tokens = [replace(SHOP, id=f"token-{number}") for number in range(2 * MOST_BEGUN // UNDER_WAY)]
    async with opened(database) as engine:
        for token in tokens:
            await added(engine, new_job(range(1, 100), token=token))
        turn = Turn(HeldJobs("us"), {}, ())
        async with engine.connect() as connection:
            await turn.claim(connection, alone=True)
            await turn.look_up(connection)
            await turn.choose(connection, lambda _: UNDER_WAY)
        async with running(engine) as (_, played):
            await played.under_way(2 * MOST_BEGUN)

        assert (len(turn.begun), turn.full) == (MOST_BEGUN, True)
        assert len(played.sent) == UNDER_WAY * len(tokens)


async def test_a_turn_writes_down_a_bounded_number_of_ends(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest comes with the next one, at once, and none is lost."""
    settled: list[int] = []
    settle = Turn.settle

    async def counted(turn: Turn, connection: AsyncConnection) -> None:
        settled.append(len(turn.verdicts))
        await settle(turn, connection)

    monkeypatch.setattr(Turn, "settle", counted)
    tokens = [replace(SHOP, id=f"token-{number}") for number in range(2 * MOST_SETTLED // UNDER_WAY)]
    async with opened(database) as engine:
        jobs = [await added(engine, new_job(range(1, 1 + 3 * UNDER_WAY), token=token)) for token in tokens]
        async with running(engine) as (_, played):
            await played.under_way(2 * MOST_SETTLED)
            settled.clear()
            played.end(answered)
            ends = [await finished(engine, job) for job in jobs]

        assert all(end.state is JobState.SUCCEEDED for end in ends)
        assert [count for count in settled if count] == [MOST_SETTLED] * 2


async def test_what_dead_processes_had_under_way_is_found_some_at_a_time(database: str) -> None:
    """A turn reads a bounded number of pages, goes on where the one before ended, and begins nothing of a job before all is known of it."""
    async with opened(database) as engine:
        job = await added(engine, new_job(range(1, 3 * PAGE_PARTS * (MOST_LOOKED_UP + 1))))
        await _left_under_way(engine, job)
        first = Turn(HeldJobs("us"), {}, ())
        async with writing(engine) as connection:
            await first.claim(connection, alone=True)
            await first.look_up(connection)
            await first.choose(connection, lambda _: UNDER_WAY)
            await first.conclude(connection)
            second = Turn(HeldJobs("us"), first.runs, ())
            await second.look_up(connection)

        assert (len(first.left), first.begun, first.leaves_more) == (PAGE_PARTS * MOST_LOOKED_UP, [], True)
        assert not second.leaves_more
        parts = await parts_of(engine, job)
        assert [part.seq for part in first.left + second.left] == [part.seq for part in parts]


async def _left_under_way(engine: AsyncEngine, job: Job) -> None:
    """A process had taken all parts of the job, and died."""
    taken = update(job_parts).where(job_parts.c.job_id == job.id)
    async with writing(engine) as connection:
        await connection.execute(taken.values(state=PartState.TAKEN, call_id=literal("call-") + cast(job_parts.c.seq, String)))
