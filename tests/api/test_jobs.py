"""`/gateway/jobs`: one's own are listed, looked at and cancelled; another's aren't there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update

from app.domain import new_id
from app.jobs import JobStore
from app.opening import open_state
from app.storage import reading, writing
from app.storage.tables import jobs
from tests.batches import HELD, JOBS, ask_batch, bearing, caller_with, code_of, ended, get, hold
from tests.rig import TOKEN, Rig, rigged, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP = "https://shop.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with two tokens, one of which sends nothing."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, HELD), cors_origins=(SHOP,)) as running:
        await hold(running)
        yield running


async def cancel(rig: Rig, key: str, job_id: str) -> Any:
    """The answer to a cancellation."""
    return await rig.client.delete(f"{rig.url}{JOBS}/{job_id}", headers=bearing(key))


async def cancellations(rig: Rig, job_id: str) -> list[dict[str, Any]]:
    """What is on record of a job's cancellation."""
    return [one for one in await rig.records() if one["name"] == "job:cancelled" and one["subject"] == job_id]


# --- one


async def test_a_finished_job_tells_how_its_ids_ended(rig: Rig) -> None:
    """Counts, state, times; nothing is expected any more."""
    key = await caller_with(rig, "finished")
    asked = await ask_batch(rig, key, [1001, 1002])
    await ended(rig, asked)
    shown = (await get(rig, key, asked.headers["Location"])).json()

    assert (shown["state"], shown["counts"]) == ("succeeded", {"total": 2, "answered": 2, "failed": 0, "cancelled": 0, "linked": 2})
    assert shown["created_at"] < shown["started_at"] < shown["finished_at"] < shown["expires_at"]
    assert (shown["expected_seconds"], shown["expected_end"], shown["failures"], shown["more_failures"]) == (None, None, [], 0)


async def test_failures_stand_by_id_with_their_problem(rig: Rig) -> None:
    """The one ID that Flxpoint refuses is found, and the others are linked."""
    key = await caller_with(rig, "failing")
    await rig.plan({"kind": "status", "status": 400, "body": "no such order", "holding": 1012, "token": TOKEN.name})
    asked = await ask_batch(rig, key, [1011, 1012])
    await ended(rig, asked)
    shown = (await get(rig, key, asked.headers["Location"])).json()
    [failure] = shown["failures"]

    assert (shown["state"], shown["counts"]["answered"], shown["counts"]["failed"]) == ("partly-failed", 1, 1)
    assert (failure["id"], failure["uncertain"], shown["more_failures"]) == (1012, False, 0)
    assert failure["problem"]["type"] == "/gateway/problems/upstream-bad-request"
    assert (failure["problem"]["status"], failure["problem"]["upstream_body"]) == (400, "no such order")


async def test_a_hundred_failures_are_shown_and_the_rest_counted(rig: Rig) -> None:
    """However many fail, the answer stays small. What wasn't sent in time has failed, too."""
    key = await caller_with(rig, "many-failures", "held")
    location = (await ask_batch(rig, key, range(1, 1_001))).headers["Location"]
    async with writing(rig.house.engine) as connection:
        past = "2026-01-01T00:00:00.000000+00:00"
        await connection.execute(update(jobs).where(jobs.c.id == location.rpartition("/")[2]).values(expires_at=past))
    rig.house.jobs.wake()

    async def shown() -> Any:
        return (await get(rig, key, location)).json()

    async def failed() -> bool:
        return bool((await shown())["failures"])

    await until(failed)
    job = await shown()

    assert job["counts"]["failed"] >= 1_000 - 8 * 50
    assert len(job["failures"]) == 100
    assert job["more_failures"] == job["counts"]["failed"] - 100
    assert {one["problem"]["type"] for one in job["failures"]} == {"/gateway/problems/deadline-exceeded"}


async def test_the_expected_end_counts_the_sends_that_are_left(rig: Rig) -> None:
    """A lane pauses for a minute: the minute, and the sends at two a second. A larger job takes turns with a small one, after the pause."""
    key = await caller_with(rig, "expects", "held")
    small = (await ask_batch(rig, key, range(1, 51))).json()
    large = (await ask_batch(rig, key, range(1, 501))).json()
    again = (await get(rig, key, f"{JOBS}/{small['id']}")).json()

    assert small["expected_seconds"] <= 62
    assert large["expected_seconds"] - small["expected_seconds"] >= 4
    assert 0 <= again["expected_seconds"] - small["expected_seconds"] <= 2
    assert again["expected_end"] > again["created_at"]


@pytest.mark.parametrize("job_id", ["none", "01a213d2-9ff2-76ee-9700-6fefd9b36ad6"])
async def test_what_isnt_there_isnt_found(rig: Rig, job_id: str) -> None:
    """On every route of one job."""
    answers = [await get(rig, rig.key, f"{JOBS}/{job_id}{rest}") for rest in ("", "/result")]
    answers.append(await cancel(rig, rig.key, job_id))

    assert [(answer.status_code, code_of(answer)) for answer in answers] == [(404, "not-found")] * 3


async def test_anothers_job_isnt_there(rig: Rig) -> None:
    """Another caller can't look at it, read its result or cancel it, nor tell it from one that never was."""
    owner, other = await caller_with(rig, "owner", "held"), await caller_with(rig, "stranger", "held")
    location = (await ask_batch(rig, owner, [1])).headers["Location"]
    answers = [await get(rig, other, location), await get(rig, other, f"{location}/result?partial=true")]
    answers.append(await rig.client.delete(rig.url + location, headers=bearing(other)))
    listed = (await get(rig, other, JOBS)).json()

    assert [(answer.status_code, code_of(answer)) for answer in answers] == [(404, "not-found")] * 3
    assert listed == {"jobs": [], "next": None}
    assert (await get(rig, owner, location)).json()["cancelling"] is False


async def test_a_ticket_sees_its_own_jobs_only(rig: Rig) -> None:
    """A page's visitor doesn't see what its backend and other visitors asked for; the backend sees all."""
    key = await caller_with(rig, "pages", "held")
    own = (await ask_batch(rig, key, [1])).json()["id"]
    pages = []
    for _ in range(2):
        given = await rig.client.post(f"{rig.url}/gateway/tickets", json={"origin": SHOP}, headers=bearing(key))
        pages.append(bearing(given.json()["ticket"]) | {"Origin": SHOP})
    body = {"operation": "link-orders", "parameter": "orderIds", "ids": [2]}
    asked = (await rig.client.post(f"{rig.url}/gateway/batches", json=body, headers=pages[0])).json()["id"]
    listed = [(await rig.client.get(rig.url + JOBS, headers=page)).json()["jobs"] for page in pages]
    seen = [(await rig.client.get(f"{rig.url}{JOBS}/{job_id}", headers=pages[1])).status_code for job_id in (own, asked)]

    assert [[job["id"] for job in jobs] for jobs in listed] == [[asked], []]
    assert seen == [404, 404]
    assert {job["id"] for job in (await get(rig, key, JOBS)).json()["jobs"]} == {own, asked}


# --- cancelling


async def test_a_cancelled_job_sends_nothing_more(rig: Rig) -> None:
    """What waits is never sent; the cancellation is on record once, however often it is asked for."""
    key = await caller_with(rig, "cancels", "held")
    asked = (await ask_batch(rig, key, range(1, 1_001))).json()
    answers = [await cancel(rig, key, asked["id"]) for _ in range(2)]

    async def dropped() -> bool:
        return bool((await get(rig, key, f"{JOBS}/{asked['id']}")).json()["counts"]["cancelled"])

    await until(dropped)
    shown = (await get(rig, key, f"{JOBS}/{asked['id']}")).json()
    [record] = await cancellations(rig, asked["id"])

    assert [(answer.status_code, answer.json()["cancelling"]) for answer in answers] == [(200, True)] * 2
    assert shown["counts"]["cancelled"] >= 1_000 - 8 * 50
    assert (record["by"], record["caller"], record["request_id"]) == ("caller:cancels", "cancels", answers[0].headers["X-Request-ID"])


async def test_a_finished_job_stays_as_it_is(rig: Rig) -> None:
    """To cancel it changes nothing, and isn't on record."""
    key = await caller_with(rig, "too-late")
    asked = await ask_batch(rig, key, [1021])
    await ended(rig, asked)
    answer = await cancel(rig, key, asked.json()["id"])

    assert (answer.status_code, answer.json()["state"], answer.json()["cancelling"]) == (200, "succeeded", False)
    assert await cancellations(rig, asked.json()["id"]) == []


# --- the list


async def test_jobs_are_listed_in_pages(rig: Rig) -> None:
    """Newest first, each once, the last page without a next one, also where it is full."""
    key = await caller_with(rig, "lists", "held")
    made = [(await ask_batch(rig, key, [number])).json()["id"] for number in range(1, 5)]
    first = (await get(rig, key, f"{JOBS}?limit=2")).json()
    await ask_batch(rig, key, [9])
    second = (await get(rig, key, f"{JOBS}?limit=2&cursor={first['next']}")).json()

    assert [job["id"] for page in (first, second) for job in page["jobs"]] == made[::-1]
    assert second["next"] is None
    assert "failures" not in first["jobs"][0]


async def test_jobs_are_listed_by_their_state(rig: Rig) -> None:
    """Only those in the state that is asked for."""
    key = await caller_with(rig, "states", "held", "shop")
    asked = await ask_batch(rig, key, [1031], token="shop")
    await ask_batch(rig, key, [1], token="held")
    await ended(rig, asked)
    listed = {state: (await get(rig, key, f"{JOBS}?state={state}")).json()["jobs"] for state in ("succeeded", "failed")}

    assert [job["id"] for job in listed["succeeded"]] == [asked.json()["id"]]
    assert listed["failed"] == []


@pytest.mark.parametrize(
    "query", ["cursor=made-up", "cursor=", "cursor=1&cursor=2", "state=done", "limit=0", "limit=201", "limit=x", "colour=red", "cursor=%00"]
)
async def test_a_list_that_cant_be_is_refused(rig: Rig, query: str) -> None:
    """A cursor that was made up, a state or a parameter that there isn't."""
    answer = await get(rig, rig.key, f"{JOBS}?{query}")

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


async def test_a_cursor_shows_nothing_of_others(rig: Rig) -> None:
    """An ID that is none of the caller's is a place in time, and no more."""
    key = await caller_with(rig, "borrows", "held")
    await ask_batch(rig, rig.key, [1], token="held")

    assert (await get(rig, key, f"{JOBS}?cursor={new_id()}")).json() == {"jobs": [], "next": None}


async def test_a_job_whose_token_is_gone_has_no_expected_end(rig: Rig) -> None:
    """Nobody can tell when it will end."""
    key = await caller_with(rig, "orphan", "held")
    asked = (await ask_batch(rig, key, [1])).json()["id"]
    async with writing(rig.house.engine) as connection:
        await connection.execute(update(jobs).where(jobs.c.id == asked).values(token_id="gone"))

    assert (await get(rig, key, f"{JOBS}/{asked}")).json()["expected_end"] is None


# --- a shutdown


@pytest.mark.parametrize("grace", [0, 25])
async def test_at_a_shutdown_parts_that_wait_have_the_grace_time(tmp_path_factory: pytest.TempPathFactory, grace: int) -> None:
    """Also where no connection is open: they are sent while it lasts. Without any they wait, unsent, for the next process."""
    async with rigged(tmp_path_factory.mktemp("grace"), shutdown_grace=grace) as rig:
        asked = await ask_batch(rig, rig.key, range(1001, 1201))

        async def begun() -> bool:
            return bool((await get(rig, rig.key, asked.headers["Location"])).json()["started_at"])

        await until(begun)
        rig.house.begin_shutdown()
    async with open_state(rig.settings) as (engine, _), reading(engine) as connection:
        job = await JobStore().job(connection, asked.json()["id"])

    assert (job.counts.answered == 200) is (grace > 0)
