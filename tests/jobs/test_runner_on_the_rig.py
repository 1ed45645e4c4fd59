"""Jobs carried out by a whole gateway, before a simulated Flxpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.rig import Rig, rigged


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
