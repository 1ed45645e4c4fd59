"""What the gateway adds to a call on an idle lane: its answer's time less that of a call straight to the upstream, and its CPU time.

Every lane gets one call a round, and rounds begin further apart than a slot is held, so no call waits for its turn; the answers'
`Server-Timing` shows it. Calls go one at a time, direct and through the gateway in turns. The CPU time is that of the whole gateway process
while a round lasts, so it includes what the process does unasked.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

from benchmarks.client import Answer, Connection, connected
from benchmarks.figures import Figure, Report, percentile
from benchmarks.scale import Scale
from benchmarks.stage import Stage, lane_name

__all__ = ["measure"]

ROUND_SECONDS = 1.3
QUEUED_MS = 50.0
TIMING = re.compile(r"queue;dur=([0-9.]+), upstream;dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One call made both ways; all in ms. `queue` and `upstream` are the gateway's own account of where its time went."""

    direct: float
    gateway: float
    queue: float
    upstream: float


@dataclass(frozen=True, slots=True)
class Round:
    """A round's samples, and the gateway's CPU time meanwhile, in seconds."""

    samples: list[Sample]
    cpu: float


async def measure(stage: Stage, scale: Scale) -> Report:
    """Measure it. The first round warms connections and code up; it is not counted.

    Raises:
        RuntimeError: a call wasn't answered with 200.
    """
    await stage.warm()
    async with connected(stage.simulator.address, 1) as (direct,), connected(stage.gateway.address, 1) as (gateway,):
        rounds = [await _round(stage, direct, gateway, scale.lanes) for _ in range(scale.rounds + 1)]
    return _report(rounds[1:], scale)


async def _round(stage: Stage, direct: Connection, gateway: Connection, lanes: int) -> Round:
    began, cpu = time.monotonic(), stage.gateway.cpu_seconds()
    samples = [await _pair(stage, direct, gateway, number) for number in range(lanes)]
    cpu = stage.gateway.cpu_seconds() - cpu
    await asyncio.sleep(max(0.0, began + ROUND_SECONDS - time.monotonic()))
    return Round(samples, cpu)


async def _pair(stage: Stage, direct: Connection, gateway: Connection, number: int) -> Sample:
    """One call both ways; every other pair begins with the gateway's."""
    name = lane_name(number)
    straight, through = stage.direct_call(f"direct-{name}", "orderIds=1001"), stage.call(name, "orderIds=1001")
    if number % 2:
        direct_ms, _ = await _timed(direct, straight)
        gateway_ms, answer = await _timed(gateway, through)
    else:
        gateway_ms, answer = await _timed(gateway, through)
        direct_ms, _ = await _timed(direct, straight)
    queue, upstream = _timing(answer)
    return Sample(direct_ms, gateway_ms, queue, upstream)


async def _timed(connection: Connection, request: bytes) -> tuple[float, Answer]:
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


def _report(rounds: list[Round], scale: Scale) -> Report:
    samples = [sample for one in rounds for sample in one.samples]
    direct, gateway = [one.direct for one in samples], [one.gateway for one in samples]
    queue, upstream = [one.queue for one in samples], [one.upstream for one in samples]
    waited = sum(one > QUEUED_MS for one in queue)
    figures = [
        Figure("direct, median", percentile(direct, 0.5), "ms"),
        Figure("direct, 99th percentile", percentile(direct, 0.99), "ms"),
        Figure("through the gateway, median", percentile(gateway, 0.5), "ms"),
        Figure("through the gateway, 99th percentile", percentile(gateway, 0.99), "ms"),
        Figure("added by the gateway, median", percentile(gateway, 0.5) - percentile(direct, 0.5), "ms"),
        Figure("the gateway's CPU time a call", 1_000 * sum(one.cpu for one in rounds) / len(samples), "ms"),
        Figure(f"calls that waited over {QUEUED_MS:g} ms for their turn", waited),
    ]
    remark = f"{len(samples)} calls each way, after {scale.lanes} to warm up; an answer waits for its records' commits, one after the other"
    details = {
        "server_timing_queue_ms": {"p50": percentile(queue, 0.5), "max": max(queue), "includes": "the commit of the call's intent"},
        "server_timing_upstream_ms": {
            "p50": percentile(upstream, 0.5),
            "max": max(upstream),
            "includes": "the commit of the send's intent",
        },
    }
    return Report("latency: what the gateway adds to a call on an idle lane", figures, [remark], details)
