"""Asking a running gateway for batches, and what became of them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2

from app.callers import GrantAsked, NewCaller
from app.jobs import Job, JobStore
from app.simulator.tokens import SimulatedToken
from app.storage import reading
from tests.rig import Rig, until

BATCHES = "/gateway/batches"
JOBS = "/gateway/jobs"
HELD = SimulatedToken("held", "a-simulated-token-value-0009", "account")
"""A token whose lane `hold` stops, so that its jobs stay open."""


async def caller_with(rig: Rig, name: str, *tokens: str, **given: Any) -> str:
    """The key of a new caller that may use these tokens; `shop` where none is named."""
    new = NewCaller(name, tuple(map(GrantAsked, tokens or ("shop",))), **given)
    _, key = await rig.administer(lambda administration: administration.add_caller(new))
    return str(key.reveal())


async def ask_batch(rig: Rig, key: str, ids: Sequence[object], /, **given: object) -> httpx2.Response:
    """A batch of these orders, as JSON."""
    body = {"operation": "link-orders", "parameter": "orderIds", "ids": list(ids)} | given
    return await rig.client.post(rig.url + BATCHES, json=body, headers=bearing(key))


async def ask_file(
    rig: Rig, key: str, text: bytes, kind: str = "text/plain", query: str = "operation=link-orders&parameter=orderIds"
) -> httpx2.Response:
    """A batch from a file."""
    return await rig.client.post(f"{rig.url}{BATCHES}?{query}", content=text, headers=bearing(key) | {"Content-Type": kind})


async def get(rig: Rig, key: str, path: str, **headers: str) -> httpx2.Response:
    """What there is at a path."""
    return await rig.client.get(rig.url + path, headers=bearing(key) | headers)


async def ended(rig: Rig, asked: httpx2.Response) -> Job:
    """The job that was asked for, once it is finished."""
    assert asked.status_code == 202, asked.text

    async def job() -> Job:
        async with reading(rig.house.engine) as connection:
            return await JobStore().job(connection, asked.json()["id"])

    async def finished() -> bool:
        return (await job()).finished

    await until(finished)
    return await job()


async def hold(rig: Rig) -> None:
    """Have the lane of the token `held` pause for a minute, again and again."""
    await rig.plan({"kind": "rate-limited", "retry_after": "60", "token": HELD.name})
    await rig.client.patch(f"{rig.url}/orders/link?orderIds=1", headers=bearing(rig.key) | {"Gateway-Token": HELD.name, "Prefer": "wait=2"})


def bearing(key: str) -> dict[str, str]:
    """The header that proves a caller."""
    return {"Authorization": f"Bearer {key}"}


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]
