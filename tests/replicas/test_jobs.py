"""Jobs across replicas: any of them is asked, whichever carries the job out, and one goes on where another ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from benchmarks.stage import Cast
from benchmarks.upstream import token_value
from benchmarks.windows import breaches
from tests.cli.processes import PATIENCE_SECONDS
from tests.replicas.desk import ADMINISTRATOR, POLL_SECONDS, Desk, desk_of
from tests.replicas.fleet import assembled
from tests.servers.postgres import Postgres
from tests.servers.valkey import valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER, MODEST = "orders", "modest"
ROTATED = "rotated"
MOST_JOBS = 6
REFRESHED_SECONDS = 2.0
CAST = Cast(
    tokens=[f"shop-{number}" for number in range(12)],
    direct=[ROTATED],
    callers=[CALLER, MODEST],
    orders=5_000,
    environment={"GATEWAY_JOBS_PER_CALLER": str(MOST_JOBS)},
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(postgres_server: Postgres) -> AsyncIterator[Desk]:
    """Two replicas that start once; each test takes a token that no other uses, and the last kills one of them."""
    with valkey() as turns:
        async with assembled(CAST, postgres_server, turns, replicas=2) as fleet, desk_of(fleet) as made:
            yield made


async def test_a_job_is_one_replicas_and_seen_at_all(desk: Desk) -> None:
    """What one replica carries out is followed live at another, from any event on, and its result is read there."""
    token, (here, there) = desk.fleet.next_token(), desk.living
    ids = desk.new_ids(8)
    job_id = (await desk.put_down(here, CALLER, token, ids)).json()["id"]
    async with desk.events(there, CALLER, job_id) as following:
        seen = [await anext(following) for _ in range(3)]
    async with desk.events(there, CALLER, job_id, seen[1].id) as following:
        later = [event async for event in following]
    outcomes = await desk.outcomes(there, CALLER, job_id)

    assert [event.id for event in seen].count(seen[1].id) == 1
    assert seen[1].id not in [event.id for event in later]
    assert (later[-1].kind, later[-1].job["state"]) == ("end", "succeeded")
    assert len(later) > 2
    assert sorted(outcomes) == ids
    assert all(one["linked"] for one in outcomes.values())


async def test_a_job_is_cancelled_at_any_replica(desk: Desk) -> None:
    """Nothing more of it is sent than what was under way; the one that carries it out says so on its events."""
    token, (here, there) = desk.fleet.next_token(), desk.living
    ids = desk.new_ids(12)
    job_id = (await desk.put_down(here, CALLER, token, ids)).json()["id"]
    await desk.fleet.arrived(2, token)
    async with desk.events(here, CALLER, job_id) as following:
        cancelled = await desk.ask("DELETE", there, f"/gateway/jobs/{job_id}", CALLER)
        events = [event async for event in following]

    assert cancelled.json()["cancelling"]
    assert (events[-1].kind, events[-1].job["state"]) == ("end", "cancelled")
    assert len(await desk.fleet.arrivals(token)) < 8


async def test_the_same_key_at_two_replicas_makes_one_call(desk: Desk) -> None:
    """While the one call runs the other replica says so; later it gives the same answer."""
    token, (here, there) = desk.fleet.next_token(), desk.living
    (order, *_) = desk.new_ids(1)
    key = {"Idempotency_Key": f'"{token}"'}
    both = await asyncio.gather(*(desk.link(one, CALLER, token, order, **key) for one in (here, there)))
    again = [await desk.link(one, CALLER, token, order, **key) for one in (here, there)]

    assert sorted(one.status_code for one in both) == [200, 409]
    assert [one.json() for one in again] == [[order], [order]]
    assert all(one.headers["Idempotent-Replayed"] == "true" for one in again)
    assert await desk.arrived_ids(token) == {order: 1}


async def test_the_same_key_at_two_replicas_makes_one_batch(desk: Desk) -> None:
    """Both answers name the one job, which only one of the replicas carries out."""
    token, replicas = desk.fleet.next_token(), desk.living
    ids = desk.new_ids(2)
    key = {"Idempotency-Key": f'"{token}"'}
    both = await asyncio.gather(*(desk.put_down(one, CALLER, token, ids, key) for one in replicas))
    (job_id,) = {one.json()["id"] for one in both}
    await desk.finished(replicas[1], CALLER, job_id)

    assert [one.status_code for one in both] == [202, 202]
    assert await desk.arrived_ids(token) == dict.fromkeys(ids, 1)


async def test_a_callers_jobs_are_counted_over_all_replicas(desk: Desk) -> None:
    """However many come at once, wherever: so many are taken in as may be open."""
    token, replicas = desk.fleet.next_token(), desk.living
    asked = [desk.put_down(one, MODEST, token, desk.new_ids(1)) for _ in range(MOST_JOBS) for one in replicas]
    statuses = Counter(one.status_code for one in await asyncio.gather(*asked))
    jobs = (await desk.ask("GET", replicas[0], "/gateway/jobs", MODEST)).json()["jobs"]
    cancelled = [await desk.ask("DELETE", replicas[1], f"/gateway/jobs/{job['id']}", MODEST) for job in jobs]

    assert statuses == {202: MOST_JOBS, 429: MOST_JOBS}
    assert len(cancelled) == MOST_JOBS


async def test_a_call_that_is_answered_later_is_asked_for_anywhere(desk: Desk) -> None:
    """Its job is at the other replica before the `202` is, and so is its answer."""
    token, (here, there) = desk.fleet.next_token(), desk.living
    (order, *_) = desk.new_ids(1)
    taken = await desk.link(here, CALLER, token, order, Prefer="respond-async")
    shown = await desk.ask("GET", there, taken.headers["Location"], CALLER)
    job = await desk.finished(there, CALLER, shown.json()["id"])
    outcomes = await desk.outcomes(there, CALLER, job["id"])

    assert (taken.status_code, shown.status_code) == (202, 200)
    assert job["state"] == "succeeded"
    assert outcomes[order]["linked"]


async def test_a_rotated_token_is_used_by_all(desk: Desk) -> None:
    """Within 2 s the other replica sends with the new value; neither value's limit is broken, with calls waiting at both throughout."""
    token, (here, _) = desk.fleet.next_token(), desk.living
    calls = asyncio.create_task(desk.fleet.ask_all(12, token=token))
    await desk.fleet.arrived(2, token)
    value = {"value": token_value(ROTATED)}
    rotated = await desk.ask("POST", here, f"/gateway/admin/tokens/{token}/rotate", ADMINISTRATOR, json=value)
    at = time.monotonic()
    called = await calls
    old, new = [await desk.fleet.arrivals(name) for name in (token, ROTATED)]

    assert rotated.is_success
    assert all(one.right for one in called)
    assert all(one < at + REFRESHED_SECONDS for one in old)
    assert len(old) + len(new) == len(called)
    assert not breaches(old)
    assert not breaches(new)


async def test_a_token_is_resumed_for_all(desk: Desk) -> None:
    """What one replica found suspended the other knows, and resumes for both."""
    token, (here, there) = desk.fleet.next_token(), desk.living
    unknown = {"value": "a-value-that-nobody-knows"}
    (await desk.ask("POST", here, f"/gateway/admin/tokens/{token}/rotate", ADMINISTRATOR, json=unknown)).raise_for_status()
    refused = [(await desk.fleet.ask(here, token=token)).problem for _ in range(4)]
    elsewhere = await desk.fleet.ask(there, token=token)
    resumed = await desk.ask("POST", there, f"/gateway/admin/lanes/{token}/resume", ADMINISTRATOR)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (sent := (await desk.fleet.ask(here, token=token)).problem) == "token-suspended":
            await asyncio.sleep(POLL_SECONDS)

    assert refused == ["upstream-rejected-token"] * 3 + ["token-suspended"]
    assert elsewhere.problem == "token-suspended"
    assert resumed.json()["operations"] == ["link-orders"]
    assert sent == "upstream-rejected-token"


async def test_a_paused_replica_sends_no_more_for_a_job_that_it_lost(desk: Desk) -> None:
    """The other goes on while it stands still; when it goes on itself it sends nothing of the job, and no order is asked for twice."""
    token, (here, there) = desk.fleet.next_token(), desk.living
    ids = desk.new_ids(14)
    job_id = (await desk.put_down(here, CALLER, token, ids)).json()["id"]
    await desk.fleet.arrived(2, token)
    before = {one["chain"] for one in desk.records("send:intent", token)}
    with desk.sender(token).paused():
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not {one["chain"] for one in desk.records("send:intent", token)} > before:
                await asyncio.sleep(POLL_SECONDS)
    resumed_at = datetime.now(UTC).isoformat()
    job = await desk.finished(there, CALLER, job_id)
    sends = {one["send_id"]: one for one in desk.records("send:intent", token)}
    late = [one for one in sends.values() if one["chain"] in before and one["at"] > resumed_at]
    written = {one["send_id"] for one in desk.records("send:outcome", token) if one["result"] == "linked"}

    assert (job["state"], job["counts"]["answered"], job["uncertain"]) == ("succeeded", len(ids), False)
    assert len({one["chain"] for one in sends.values()}) > len(before)
    assert not [one for one in late if one["send_id"] in written]
    assert await desk.arrived_ids(token) == dict.fromkeys(ids, 1)
    assert not breaches(await desk.fleet.arrivals(token))


async def test_a_killed_replicas_job_is_taken_over(desk: Desk) -> None:
    """Each of its IDs is linked in the end; what arrived a second time is marked, and had no answer on record."""
    token, (here, _) = desk.fleet.next_token(), desk.living
    ids = desk.new_ids(12)
    job_id = (await desk.put_down(here, CALLER, token, ids)).json()["id"]
    await desk.fleet.arrived(3, token)
    desk.sender(token).kill()
    (there,) = desk.living
    answered = {int(one) for send in desk.records("send:outcome", token) for one in send.get("linked_ids", ())}
    job = await desk.finished(there, CALLER, job_id)
    outcomes = await desk.outcomes(there, CALLER, job_id)
    twice = {one for one, count in (await desk.arrived_ids(token)).items() if count > 1}

    assert (job["state"], job["counts"]["answered"]) == ("succeeded", len(ids))
    assert sorted(outcomes) == ids
    assert not twice & answered
    assert twice <= {one for one, outcome in outcomes.items() if outcome["uncertain"]}
    assert {one for one, outcome in outcomes.items() if not outcome["linked"]} <= twice
