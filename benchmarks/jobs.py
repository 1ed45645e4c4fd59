"""Batches: whether they use all of a token's budget, keep no interactive call waiting, and link exactly what they were asked to.

First two batches at once, each through a token of its own, merging on; amid the one of them its caller also makes calls, one after the
other. Then a job for each pair of ten callers and ten tokens, so that at each token ten jobs take turns.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.client import connected
from benchmarks.crowd import Told, ask, linked
from benchmarks.figures import Bound, Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import RATE, breaches

__all__ = ["measure"]

NONE = Bound("≤", 0)
CAP = 50
"""IDs that one send may carry."""
POLL_SECONDS = 0.2
SETTLED_SECONDS = 0.5
BETWEEN_CALLS_SECONDS = 0.7
"""From an interactive call's answer to the next one: it falls on every moment of the lane's second."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch to be asked for: a caller's, with a token, of so many orders from a first one on."""

    caller: str
    token: str
    first: int
    count: int

    @property
    def orders(self) -> range:
        """The orders."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Done:
    """A finished job, and which of its orders were linked."""

    shown: dict[str, Any]
    linked: frozenset[int]

    @property
    def took(self) -> float:
        """Seconds from when it was asked for until its end was known."""
        created, finished = (datetime.fromisoformat(self.shown[name]) for name in ("created_at", "finished_at"))
        return (finished - created).total_seconds()


async def measure(scale: Scale) -> Report:
    """Measure both, one after the other, the lanes warm."""
    figures = [*await _one_batch(scale), *await _many_jobs(scale)]
    return Report("jobs: batches of many orders", figures, ["nothing was pinned"])


async def _one_batch(scale: Scale) -> list[Figure]:
    count, caller = scale.batch, "caller"
    batches = [Batch(caller, token, FIRST_ORDER + place * count, count) for place, token in enumerate(("alone", "shared"))]
    further = FIRST_ORDER + 2 * count
    cast = Cast(tokens=["alone", "shared"], callers=[caller], orders=3 * count, environment={"GATEWAY_COALESCE": "true"})
    async with opened(cast) as stage:
        await stage.warm()
        jobs = await _asked(stage, batches)
        calls = asyncio.create_task(_call(stage, caller, further))
        [done] = await _finished(stage, batches[:1], jobs[:1])
        calls.cancel()
        told = await calls
        both = await _finished(stage, batches, jobs)
        alone, shared = await stage.recorder.arrivals("alone", "shared")
    sends, bound = -(-count // CAP), count / CAP / RATE
    title = f"a batch of {count:,} orders"
    wrong_calls = sum(linked(one) != [further + place] for place, one in enumerate(told))
    return [
        Figure(f"{title}: sends", len(alone), "", Bound("≤", sends)),
        Figure(f"{title}: seconds", done.took, "s"),
        Figure(f"{title}: farther from {bound:g} s by", abs(done.took / bound - 1) * 100, "%", scale.at_most(3)),
        Figure(f"{title}: linked wrongly, or not", _wrong(batches, both), "", NONE),
        Figure(f"{title}: windows broken, of two tokens", breaches(alone) + breaches(shared), "", NONE),
        Figure("interactive calls amid another: the longest wait", max((one.took for one in told), default=0.0), "s", scale.at_most(1.1)),
        Figure("interactive calls amid another: how many", len(told), "", Bound("≥", 1)),
        Figure("interactive calls amid another: answers that were wrong", wrong_calls, "", NONE),
    ]


async def _many_jobs(scale: Scale) -> list[Figure]:
    names, count = [f"caller-{number}" for number in range(scale.job_callers)], scale.job_orders
    tokens = [f"token-{number}" for number in range(scale.job_callers)]
    pairs = [(caller, token) for caller in names for token in tokens]
    batches = [Batch(*pair, FIRST_ORDER + place * count, count) for place, pair in enumerate(pairs)]
    async with opened(Cast(tokens=tokens, callers=names, orders=count * len(batches))) as stage:
        await stage.warm()
        began, cpu = time.monotonic(), stage.gateway.cpu_seconds()
        done = await _finished(stage, batches, await _asked(stage, batches))
        busy = (stage.gateway.cpu_seconds() - cpu) / (time.monotonic() - began)
        arrivals = await stage.recorder.arrivals(*tokens)
    sends = -(-count // CAP) * len(names)
    ends = [datetime.fromisoformat(one.shown[name]) for one in done for name in ("created_at", "finished_at")]
    took, bound = (max(ends) - min(ends)).total_seconds(), sends / RATE
    title = f"{len(batches)} jobs of {count:,}"
    return [
        Figure(f"{title}: seconds", took, "s"),
        Figure(f"{title}: longer than the {bound:g} s that the rates set by", (took / bound - 1) * 100, "%", scale.at_most(5)),
        Figure(f"{title}: sends more, or fewer, than needed", abs(sum(map(len, arrivals)) - sends * len(tokens)), "", NONE),
        Figure(f"{title}: linked wrongly, or not", _wrong(batches, done), "", NONE),
        Figure(f"{title}: windows broken", sum(map(breaches, arrivals)), "", NONE),
        Figure(f"{title}: of a core", busy * 100, "%"),
    ]


async def _asked(stage: Stage, batches: Sequence[Batch]) -> list[str]:
    """The IDs of the jobs that the batches became."""
    async with httpx2.AsyncClient(base_url=stage.gateway.address.url, trust_env=False, timeout=60) as client:
        return [await _ask(stage, client, batch) for batch in batches]


async def _ask(stage: Stage, client: httpx2.AsyncClient, batch: Batch) -> str:
    wanted = {"operation": "link-orders", "parameter": "orderIds", "ids": list(batch.orders), "token": batch.token}
    answer = await client.post("/gateway/batches", json=wanted, headers=_credential(stage, batch))
    return str(answer.raise_for_status().json()["id"])


async def _finished(stage: Stage, batches: Sequence[Batch], jobs: Sequence[str]) -> list[Done]:
    """The jobs, once all are finished."""
    async with httpx2.AsyncClient(base_url=stage.gateway.address.url, trust_env=False, timeout=60) as client:
        return [await _end(stage, client, *pair) for pair in zip(batches, jobs, strict=True)]


async def _end(stage: Stage, client: httpx2.AsyncClient, batch: Batch, job: str) -> Done:
    shown: dict[str, Any] = {}
    while not shown.get("finished_at"):
        await asyncio.sleep(POLL_SECONDS if shown else 0)
        shown = (await client.get(f"/gateway/jobs/{job}", headers=_credential(stage, batch))).raise_for_status().json()
    return Done(shown, _linked(stage.state_dir / "gateway.db", job))


def _credential(stage: Stage, batch: Batch) -> dict[str, str]:
    return {"Authorization": f"Bearer {stage.keys[batch.caller]}"}


def _linked(database: Path, job: str) -> frozenset[int]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT linked FROM job_parts WHERE job_id = ? AND linked <> ''", (job,))
        return frozenset(int(one) for (text,) in rows for one in text.split(","))


def _wrong(batches: Sequence[Batch], done: Sequence[Done]) -> int:
    """How many orders were linked that weren't asked for, or asked for and not linked."""
    return sum(len(one.linked ^ frozenset(batch.orders)) for batch, one in zip(batches, done, strict=True))


async def _call(stage: Stage, caller: str, first: int) -> list[Told]:
    """Call for one order after the other, through the token of a batch, until cancelled; a call that is under way then doesn't count."""
    told: list[Told] = []
    async with connected(stage.gateway.address, 1) as (connection,):
        try:
            await asyncio.sleep(SETTLED_SECONDS)
            while True:
                request = stage.call("shared", f"orderIds={first + len(told)}", caller)
                told.append(await ask(connection, request))
                await asyncio.sleep(BETWEEN_CALLS_SECONDS)
        except asyncio.CancelledError:
            return told
