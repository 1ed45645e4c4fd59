"""What the gateway adds to a call on an idle lane: its answer's time less that of a call straight to the upstream, and its CPU time.

Every lane gets one call a round, and rounds begin further apart than a slot is held, so no call waits for its turn; the answers'
`Server-Timing` shows it. Calls go one at a time, direct and through the gateway in turns. The CPU time is that of the whole gateway process
while a round lasts, so it includes what the process does unasked.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Answer, Connection, connected
from benchmarks.figures import Figure, Report, percentile
from benchmarks.nginx import MISSING, nginx_program, nginx_version, proxied
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER

__all__ = ["ROUND_SECONDS", "measure", "timed"]

ROUND_SECONDS = 1.3
QUEUED_MS = 50.0
TIMING = re.compile(r"queue;dur=([0-9.]+), upstream;dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Ways:
    """The connections: straight to the upstream, through the gateway, and through nginx where there is one."""

    direct: Connection
    gateway: Connection
    nginx: Connection | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One call made each way; all in ms. `queue` and `upstream` are the gateway's own account of where its time went."""

    direct: float
    gateway: float
    nginx: float
    queue: float
    upstream: float


@dataclass(frozen=True, slots=True)
class Round:
    """A round's samples, and the gateway's CPU time meanwhile, in seconds."""

    samples: list[Sample]
    cpu: float


async def measure(scale: Scale) -> Report:
    """Measure it. The first round warms connections and code up; it is not counted.

    Raises:
        RuntimeError: a call wasn't answered with 200.
    """
    program, names = nginx_program(), [f"lane-{number}" for number in range(scale.lanes)]
    others = [f"{way}-{name}" for way in ("direct", "nginx") for name in names]
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(opened(Cast(tokens=names, direct=others)))
        (direct,) = await stack.enter_async_context(connected(stage.simulator.address, 1))
        (gateway,) = await stack.enter_async_context(connected(stage.gateway.address, 1))
        nginx = await _nginx(stack, program, stage) if program else None
        await stage.warm()
        ways = Ways(direct, gateway, nginx)
        rounds = [await _round(stage, ways, names) for _ in range(scale.rounds + 1)]
    return _report(rounds[1:], scale, nginx_version(program) if program else None)


async def _nginx(stack: AsyncExitStack, program: str, stage: Stage) -> Connection:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    proxy = stack.enter_context(proxied(program, Path(folder), stage.simulator.address, limited=False))
    await proxy.ready("/_simulator/health")
    (connection,) = await stack.enter_async_context(connected(proxy.address, 1))
    return connection


async def _round(stage: Stage, ways: Ways, names: list[str]) -> Round:
    began, cpu = time.monotonic(), stage.gateway.cpu_seconds()
    samples = [await _sample(stage, ways, *one) for one in enumerate(names)]
    cpu = stage.gateway.cpu_seconds() - cpu
    await asyncio.sleep(max(0.0, began + ROUND_SECONDS - time.monotonic()))
    return Round(samples, cpu)


async def _sample(stage: Stage, ways: Ways, number: int, name: str) -> Sample:
    """One call each way; each way is as often the first, the second and the third."""
    query = f"orderIds={FIRST_ORDER}"
    calls = {
        "direct": (ways.direct, stage.recorder.call(f"direct-{name}", query)),
        "gateway": (ways.gateway, stage.call(name, query)),
        "nginx": (ways.nginx, stage.recorder.call(f"nginx-{name}", query)),
    }
    order = deque(calls)
    order.rotate(number)
    found = {way: await timed(connection, request) for way in order for connection, request in [calls[way]] if connection}
    queue, upstream = _timing(found["gateway"][1])
    return Sample(found["direct"][0], found["gateway"][0], found["nginx"][0] if ways.nginx else 0.0, queue, upstream)


async def timed(connection: Connection, request: bytes) -> tuple[float, Answer]:
    """Make a call; gives how long it took, in ms, and its answer.

    Raises:
        RuntimeError: it wasn't answered with 200.
    """
    began = time.perf_counter()
    answer = await connection.exchange(request)
    took = (time.perf_counter() - began) * 1_000
    if answer.status != 200:
        message = f"a call was answered {answer.status}: {answer.body.decode(errors='replace')}"
        raise RuntimeError(message)
    return took, answer


def _timing(answer: Answer) -> tuple[float, float]:
    """The queue's and the upstream's ms, by the answer's `Server-Timing`."""
    match = TIMING.search(answer.header("Server-Timing"))
    if match is None:
        message = "an answer of the gateway's has no Server-Timing"
        raise RuntimeError(message)
    return float(match[1]), float(match[2])


def _report(rounds: list[Round], scale: Scale, nginx: str | None) -> Report:
    samples = [sample for one in rounds for sample in one.samples]
    direct, gateway = [one.direct for one in samples], [one.gateway for one in samples]
    queue, upstream = [one.queue for one in samples], [one.upstream for one in samples]
    waited = sum(one > QUEUED_MS for one in queue)
    added, theirs = _added(gateway, direct), _added([one.nginx for one in samples], direct)
    beside = f"{nginx} as a plain proxy: {theirs[0]:.2f} ms" if nginx else ""
    figures = [
        Figure("direct, median", percentile(direct, 0.5), "ms"),
        Figure("through the gateway, median", percentile(gateway, 0.5), "ms"),
        Figure("added by the gateway, median", added[0], "ms", scale.at_most(3), beside),
        Figure("added by the gateway, 99th percentile less direct's", added[1], "ms"),
        Figure("the gateway's CPU time a call", 1_000 * sum(one.cpu for one in rounds) / len(samples), "ms"),
        Figure(f"calls that waited over {QUEUED_MS:g} ms for their turn", waited),
    ]
    if nginx:
        figures += [Figure("added by nginx, median", theirs[0], "ms"), Figure("added by nginx, 99th percentile", theirs[1], "ms")]
    remarks = [
        f"{len(samples)} calls each way, after {scale.lanes} to warm up; an answer waits for its records' commits, one after the other",
        "nothing was pinned",
        *([] if nginx else [MISSING]),
    ]
    details = {
        "server_timing_queue_ms": {"p50": percentile(queue, 0.5), "max": max(queue), "includes": "the commit of the call's intent"},
        "server_timing_upstream_ms": {
            "p50": percentile(upstream, 0.5),
            "max": max(upstream),
            "includes": "the commit of the send's intent",
        },
    }
    return Report("latency: what the gateway adds to a call on an idle lane", figures, remarks, details)


def _added(through: list[float], direct: list[float]) -> tuple[float, float]:
    """The medians' difference, and that of the 99th percentiles; in ms."""
    p50, p99 = (percentile(through, part) - percentile(direct, part) for part in (0.5, 0.99))
    return p50, p99
