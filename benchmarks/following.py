"""Following jobs: what the gateway's process grows by for each client that follows one by events, and whether lanes are disturbed.

Each token has a job, and as many clients follow each, from the lanes' cold start to the job's end. They take every event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2

from benchmarks.client import Address, request_bytes
from benchmarks.figures import Bound, Figure, Report, percentile
from benchmarks.memory import open_files_for
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import breaches, utilisation

__all__ = ["measure"]

JOBS = 10
CAP = 50
"""IDs that one send may carry."""
BATCH = 50
LONGEST_SECONDS = 600
END = b"event: end\n"
PROGRESS = b"event: progress\n"


@dataclass(frozen=True, slots=True)
class Job:
    """A job by its ID and its caller's name."""

    id: str
    caller: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client had of its job: how many events, and whether the end was among them."""

    events: int
    has_end: bool


@dataclass(frozen=True, slots=True)
class Run:
    """When sends arrived with each token, by how many bytes the gateway's process grew for those who follow, and its share of a core."""

    arrivals: Sequence[Sequence[float]]
    grown: float
    busy: float


async def measure(scale: Scale) -> Report:
    """Measure the same jobs without anybody who follows, then with."""
    clients = open_files_for(scale.followers)
    alone, _ = await _run(scale, 0)
    followed, heard = await _run(scale, clients)
    lost = sum(not one.has_end for one in heard)
    figures = [
        Figure("the gateway, for each client that follows", followed.grown / max(1, clients) / 1024, "KiB"),
        Figure("windows broken", sum(map(breaches, followed.arrivals)), "", Bound("≤", 0)),
        Figure("the least of a token's budget used", _least(followed), "", beside=f"with nobody who follows: {_least(alone):.4f}"),
        Figure("of a core", followed.busy * 100, "%", beside=f"with nobody who follows: {alone.busy * 100:.2g} %"),
        Figure("clients that didn't hear of their job's end", lost, "", Bound("≤", 0)),
        Figure("events that half of them had, at least", percentile([one.events for one in heard], 0.5), ""),
    ]
    size = "by the process's proportional set size, the kernel's own memory not included"
    remarks = [f"{clients:,} clients, {JOBS} jobs of {scale.followed_sends} sends; {size}; nothing was pinned"]
    return Report("following: clients that follow jobs by events", figures, remarks)


async def _run(scale: Scale, clients: int) -> tuple[Run, list[Heard]]:
    tokens, callers = [f"token-{number}" for number in range(JOBS)], [f"caller-{number}" for number in range(JOBS)]
    orders = CAP * scale.followed_sends
    async with opened(Cast(tokens=tokens, callers=callers, orders=orders * JOBS)) as stage:
        firsts = range(FIRST_ORDER, FIRST_ORDER + JOBS * orders, orders)
        jobs = [await _ask(stage, *one, orders) for one in zip(callers, tokens, firsts, strict=True)]
        async with _followers(stage, jobs):
            await stage.warm()
        before, cpu, began = stage.gateway.memory_bytes(), stage.gateway.cpu_seconds(), asyncio.get_running_loop().time()
        async with _followers(stage, [jobs[place % JOBS] for place in range(clients)]) as heard:
            grown = stage.gateway.memory_bytes() - before
            await _ended(stage, jobs)
            busy = (stage.gateway.cpu_seconds() - cpu) / (asyncio.get_running_loop().time() - began)
            told = await asyncio.gather(*heard)
        return Run(await stage.recorder.arrivals(*tokens), grown, busy), told


@asynccontextmanager
async def _followers(stage: Stage, jobs: Sequence[Job]) -> AsyncIterator[list[asyncio.Task[Heard]]]:
    """Clients that follow these jobs, each once it has had its first event; a few begin at a time."""
    tasks: list[asyncio.Task[Heard]] = []
    async with AsyncExitStack() as stack:
        for batch in (jobs[place : place + BATCH] for place in range(0, len(jobs), BATCH)):
            begun = await asyncio.gather(*(_begin(stage, job) for job in batch))
            for reader, writer in begun:
                stack.callback(writer.close)
                tasks.append(asyncio.create_task(_hear(reader)))
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _begin(stage: Stage, job: Job) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address: Address = stage.gateway.address
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request_bytes("GET", f"/gateway/jobs/{job.id}/events", address, _credential(stage, job.caller)))
    await reader.readuntil(PROGRESS)
    return reader, writer


async def _hear(reader: asyncio.StreamReader) -> Heard:
    """Take all that comes until the end, or until the connection does."""
    events = 1
    while line := await reader.readline():
        events += line in {PROGRESS, END}
        if line == END:
            return Heard(events, has_end=True)
    return Heard(events, has_end=False)


async def _ask(stage: Stage, caller: str, token: str, first: int, count: int) -> Job:
    wanted = {"operation": "link-orders", "parameter": "orderIds", "ids": list(range(first, first + count)), "token": token}
    async with httpx2.AsyncClient(base_url=stage.gateway.address.url, trust_env=False, timeout=60) as client:
        answer = await client.post("/gateway/batches", json=wanted, headers=_credential(stage, caller))
    return Job(answer.raise_for_status().json()["id"], caller)


async def _ended(stage: Stage, jobs: Sequence[Job]) -> None:
    """Wait until all have ended, as one more client that follows.

    Raises:
        TimeoutError: they don't within ten minutes.
    """
    async with asyncio.timeout(LONGEST_SECONDS), _followers(stage, jobs) as heard:
        await asyncio.gather(*heard)


def _least(run: Run) -> float:
    return min(map(utilisation, run.arrivals))


def _credential(stage: Stage, caller: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {stage.keys[caller]}"}
