"""Calls that their callers don't wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.batches import HELD, hold
from tests.rig import TOKEN, Rig, rigged, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway before a simulated Flxpoint."""
    async with rigged(tmp_path_factory.mktemp("state"), caller_rate="10000/second") as running:
        yield running


async def shown(rig: Rig, location: str) -> dict[str, Any]:
    """The job at that place."""
    answer = await rig.client.get(rig.url + location, headers={"Authorization": f"Bearer {rig.key}"})
    return answer.raise_for_status().json()  # type: ignore[no-any-return]


async def finished(rig: Rig, location: str) -> dict[str, Any]:
    """The job at that place, once it has its end."""

    async def ended() -> bool:
        return (await shown(rig, location))["state"] not in {"queued", "running"}

    await until(ended)
    return await shown(rig, location)


async def jobs(rig: Rig) -> list[dict[str, Any]]:
    """The caller's jobs."""
    answer = await rig.client.get(f"{rig.url}/gateway/jobs", headers={"Authorization": f"Bearer {rig.key}"})
    return answer.json()["jobs"]  # type: ignore[no-any-return]


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_a_call_becomes_a_job(rig: Rig) -> None:
    """The answer names the job and shows it as it can be looked at from then on; the call is made all the same."""
    answer = await rig.link("orderIds=1001,1002", Prefer="respond-async")
    location = answer.headers["Location"]
    job = await finished(rig, location)

    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "respond-async")
    assert answer.headers["Content-Type"] == "application/json"
    assert location == f"/gateway/jobs/{answer.json()['id']}"
    assert answer.json().keys() == job.keys()
    assert (job["kind"], job["priority"], job["state"]) == ("call", "interactive", "succeeded")
    assert (job["counts"]["total"], job["counts"]["linked"]) == (2, 2)


async def test_its_call_is_on_record_as_any(rig: Rig) -> None:
    """The record has the intent before the send, and how it ended, under the request's ID."""
    answer = await rig.link("orderIds=1003", Prefer="respond-async")
    await finished(rig, answer.headers["Location"])
    found = [one for one in await rig.records() if one.get("request_id") == answer.headers["X-Request-ID"]]

    assert [one["name"] for one in found] == ["job:accepted", "call:intent", "send:intent", "send:outcome", "call:outcome"]
    assert (found[-1]["code"], found[-1]["linked_ids"]) == ("ok", ["1003"])


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {}, 400, "parameter-missing"),
        ("orderIds=1,x", {}, 400, "parameter-invalid"),
        ("orderIds=1", {"Gateway-Token": "another"}, 403, "token-not-granted"),
    ],
)
async def test_what_is_wrong_is_said_at_once(rig: Rig, query: str, headers: dict[str, str], status: int, code: str) -> None:
    """A call that would be refused is refused, on record, and there is no job."""
    before = len(await jobs(rig))
    answer = await rig.link(query, Prefer="respond-async, wait=5", **headers)
    found = [one["name"] for one in await rig.records() if one.get("request_id") == answer.headers["X-Request-ID"]]

    assert (answer.status_code, code_of(answer)) == (status, code)
    assert found == ["call:refused"]
    assert len(await jobs(rig)) == before


async def test_an_answer_that_comes_in_time_is_given(rig: Rig) -> None:
    """Who waits a while gets the answer itself, as of a call without a job."""
    answer = await rig.link("orderIds=1004", Prefer="respond-async, wait=10")

    assert (answer.status_code, answer.json()) == (200, [1004])
    assert answer.headers["Preference-Applied"] == "wait=10"
    assert (answer.headers["Gateway-Token"], answer.headers["Gateway-Attempts"]) == (TOKEN.name, "1")
    assert "Location" not in answer.headers


async def test_a_problem_that_comes_in_time_is_given(rig: Rig) -> None:
    """What Flxpoint refuses is told as of any call, and the job has failed; its list isn't halved, for it is one call."""
    await rig.plan({"kind": "status", "status": 422, "body": "no", "count": 1})
    answer = await rig.link("orderIds=1,2", Prefer="respond-async, wait=10")
    newest = (await jobs(rig))[0]
    job = await finished(rig, f"/gateway/jobs/{newest['id']}")

    assert (answer.status_code, code_of(answer)) == (422, "upstream-422")
    assert (job["state"], job["counts"]["failed"]) == ("failed", 2)


async def test_a_call_keeps_its_place_after_the_answer(rig: Rig) -> None:
    """Whose answer doesn't come in time gets a job, and the call that was in the lane from the beginning goes on: one send in all."""
    before = len(await rig.arrivals())
    await rig.plan({"kind": "latency", "back": 1.5, "count": 1})
    answer = await rig.link("orderIds=1005", Prefer="respond-async, wait=1")
    job = await finished(rig, answer.headers["Location"])

    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "respond-async, wait=1")
    assert answer.json()["state"] == "running"
    assert (job["state"], job["counts"]["linked"]) == ("succeeded", 1)
    assert len(await rig.arrivals()) == before + 1


async def test_a_call_goes_on_after_its_caller_hung_up(rig: Rig) -> None:
    """The job of a caller that doesn't wait to the end is carried out."""
    await rig.plan({"kind": "latency", "back": 0.8, "count": 1})
    with pytest.raises(httpx2.ReadTimeout):
        await rig.client.patch(
            f"{rig.url}/orders/link?orderIds=1006",
            headers={"Authorization": f"Bearer {rig.key}", "Prefer": "respond-async, wait=30"},
            timeout=0.3,
        )
    job = await finished(rig, f"/gateway/jobs/{(await jobs(rig))[0]['id']}")

    assert (job["state"], job["counts"]["linked"]) == ("succeeded", 1)


async def test_a_call_comes_before_its_callers_batch(rig: Rig) -> None:
    """A call that is answered later goes in its turn, not after the parts of a batch that are ahead of it."""
    batch = {"operation": "link-orders", "parameter": "orderIds", "ids": list(range(2001, 2401))}
    asked = await rig.client.post(f"{rig.url}/gateway/batches", json=batch, headers={"Authorization": f"Bearer {rig.key}"})

    async def begun() -> bool:
        return bool((await shown(rig, asked.headers["Location"]))["state"] == "running")

    await until(begun)
    call = await rig.link("orderIds=1007", Prefer="respond-async, wait=20")
    job = await shown(rig, asked.headers["Location"])
    await rig.client.delete(rig.url + asked.headers["Location"], headers={"Authorization": f"Bearer {rig.key}"})

    assert call.status_code == 200
    assert job["state"] == "running"
    assert job["counts"]["answered"] < job["counts"]["total"]


async def test_a_call_without_wait_isnt_bound_to_the_longest_wait(rig: Rig) -> None:
    """Its job is given up a day after it was asked for."""
    answer = await rig.link("orderIds=1008", Prefer="respond-async")
    job = answer.json()

    assert job["expires_at"][:10] > job["created_at"][:10]


async def test_deferred_calls_leave_room_for_others(tmp_path: Path) -> None:
    """They have half of a token's queue; a call whose caller waits finds a place, and may only have to wait too long."""
    async with rigged(tmp_path, (TOKEN, HELD), lane_depth=4) as small:
        await hold(small)
        deferred = [await small.link(f"orderIds={order}", Prefer="respond-async", Gateway_Token="held") for order in (1, 2)]

        async def both_wait() -> bool:
            return next(sum(lane.waiting.values()) for lane in small.house.dispatcher.reports() if lane.token == "held") == 2

        await until(both_wait)
        deferred.append(await small.link("orderIds=3", Prefer="respond-async", Gateway_Token="held"))
        waiting = await small.link("orderIds=9", Prefer="wait=1", Gateway_Token="held")
        number = len(await jobs(small))

    assert [answer.status_code for answer in deferred] == [202, 202, 503]
    assert (code_of(deferred[-1]), code_of(waiting)) == ("queue-full", "wait-too-long")
    assert number == 2


async def test_a_call_takes_room_among_its_callers_jobs(tmp_path: Path) -> None:
    """As many jobs as a caller may have open, calls among them; the one too many is refused, on record, unless it was asked for before."""
    async with rigged(tmp_path, jobs_per_caller=1) as small:
        await small.plan({"kind": "latency", "back": 1.0, "count": 1})
        first = await small.link("orderIds=1001", Prefer="respond-async", Idempotency_Key='"first"')
        second = await small.link("orderIds=1002", Prefer="respond-async", Idempotency_Key='"second"')
        again = await small.link("orderIds=1001", Prefer="respond-async", Idempotency_Key='"first"')
        await finished(small, first.headers["Location"])
        third = await small.link("orderIds=1002", Prefer="respond-async", Idempotency_Key='"second"')
        refused = [one["code"] for one in await small.records() if one["name"] == "call:refused"]

    assert (second.status_code, code_of(second)) == (429, "job-quota-exceeded")
    assert refused == ["job-quota-exceeded"]
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    assert third.status_code == 202
