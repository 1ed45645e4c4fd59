"""Jobs carried out by a whole gateway, before a simulated Flxpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from app.jobs import Job, JobState, JobStore
from app.storage import reading
from tests.rig import TOKEN, Rig, rigged, until


async def batch(rig: Rig, ids: list[int], **given: Any) -> str:
    """Ask for a batch; gives the job's ID."""
    body = {"operation": "link-orders", "parameter": "orderIds", "ids": ids} | given
    answer = await rig.client.post(f"{rig.url}/gateway/batches", json=body, headers={"Authorization": f"Bearer {rig.key}"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def shown(rig: Rig, job: str) -> dict[str, Any]:
    """The job as its caller sees it."""
    answer = await rig.client.get(f"{rig.url}/gateway/jobs/{job}", headers={"Authorization": f"Bearer {rig.key}"})
    return answer.json()  # type: ignore[no-any-return]


async def finished(rig: Rig, job: str) -> dict[str, Any]:
    """The job, once it is finished."""
    async with asyncio.timeout(30):
        while (state := await shown(rig, job))["finished_at"] is None:
            await asyncio.sleep(0.02)
    return state


async def test_a_batch_is_carried_out(tmp_path: Path) -> None:
    """Every ID is asked for once, in as few sends as its parameter's cap allows, and what was linked is counted."""
    async with rigged(tmp_path) as rig:
        end = await finished(rig, await batch(rig, list(range(1001, 1101))))

        assert end["state"] == "succeeded"
        assert end["counts"] == {"total": 100, "answered": 100, "failed": 0, "cancelled": 0, "linked": 100}
        assert (await rig.statistics())["arrivals"] == 2


async def row(rig: Rig, job: str) -> Job:
    """The job from its row, whoever may look at it and however often."""
    async with reading(rig.house.engine) as connection:
        return await JobStore().job(connection, job)


async def under_way(rig: Rig, job: str) -> None:
    """Wait until some of the job's IDs are answered."""

    async def begun() -> bool:
        return (await row(rig, job)).counts.answered > 0

    await until(begun)


async def test_what_flxpoint_refuses_is_found_and_the_rest_is_linked(tmp_path: Path) -> None:
    """By halves: the one ID fails with its problem, alone."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "status", "status": 404, "holding": 1003})
        end = await finished(rig, await batch(rig, [1001, 1002, 1003, 1004]))

        assert end["state"] == "partly-failed"
        assert end["counts"] == {"total": 4, "answered": 3, "failed": 1, "cancelled": 0, "linked": 3}


async def test_a_job_whose_token_is_disabled_fails(tmp_path: Path) -> None:
    """What was answered before stays answered; the rest doesn't wait for an operator."""
    async with rigged(tmp_path) as rig:
        job = await batch(rig, list(range(1, 1001)))
        await under_way(rig, job)
        await rig.administer(lambda administration: administration.set_token_enabled(TOKEN.name, enabled=False))
        end = await finished(rig, job)

        assert end["state"] == "partly-failed"
        assert end["counts"]["answered"] + end["counts"]["failed"] == 1000
        assert (await rig.statistics())["arrivals"] * 50 == end["counts"]["answered"]


async def test_a_job_whose_caller_is_removed_fails(tmp_path: Path) -> None:
    """Nothing is sent in the name of one who may not call any more."""
    async with rigged(tmp_path) as rig:
        job = await batch(rig, list(range(1, 1001)))
        await under_way(rig, job)
        await rig.administer(lambda administration: administration.set_caller_enabled("order-service", enabled=False))

        async def is_finished() -> bool:
            return (await row(rig, job)).finished

        await until(is_finished)
        end = await row(rig, job)
        assert end.state is JobState.PARTLY_FAILED
        assert end.counts.answered + end.counts.failed == 1000


async def test_a_cancelled_job_leaves_the_lane_at_once(tmp_path: Path) -> None:
    """What waits for its turn isn't sent; what was sent is counted."""
    async with rigged(tmp_path) as rig:
        job = await batch(rig, list(range(1, 1001)))
        await under_way(rig, job)
        await rig.client.delete(f"{rig.url}/gateway/jobs/{job}", headers={"Authorization": f"Bearer {rig.key}"})
        end = await finished(rig, job)

        assert end["state"] == "cancelled"
        assert end["counts"]["answered"] + end["counts"]["cancelled"] == 1000
        assert (await rig.statistics())["arrivals"] * 50 == end["counts"]["answered"]


async def test_a_job_outlives_an_outage(tmp_path: Path) -> None:
    """It waits, and goes on when the upstream is back; what may have been done before is marked."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "status", "status": 503, "count": 3})
        end = await finished(rig, await batch(rig, [1001, 1002]))

        assert (end["state"], end["uncertain"]) == ("succeeded", True)
        assert (await rig.statistics())["arrivals"] == 4
        assert [record["code"] for record in await rig.records() if record["name"] == "call:outcome"] == ["upstream-error", "ok"]
