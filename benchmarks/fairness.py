"""Ten callers of equal weight, one of them with ten times as many calls as each of the rest: what each gets while all have calls waiting.

The one with many comes first, which is the worst order for a queue that is first in, first out. What is counted are the answers from the
moment when all calls wait (a later call of another lane has been answered, so the gateway has taken all before it) until the first caller
has no call waiting any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from benchmarks.client import connected
from benchmarks.crowd import Told, ask, wrong
from benchmarks.figures import Bound, Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER

__all__ = ["jain", "measure", "shares"]

NONE = Bound("≤", 0)
CALLERS = 10
TIMES_MORE = 10
SETTLED = 0.2


async def measure(scale: Scale) -> Report:
    """Measure it, the lanes warm."""
    counts = {f"caller-{number}": scale.small * (1 if number else TIMES_MORE) for number in range(CALLERS)}
    total = sum(counts.values())
    depths = {"GATEWAY_LANE_DEPTH": str(2 * total), "GATEWAY_CALLER_DEPTH": str(2 * total)}
    cast = Cast(tokens=["shared", "probe"], callers=list(counts), rate=scale.fair_rate, orders=total + 1, environment=depths)
    async with opened(cast) as stage:
        await stage.warm()
        answers, bad, began = await _compete(stage, counts)
        [arrivals] = await stage.recorder.arrivals("shared")
    got = shares(answers, began)
    index, fair = jain(list(got.values())), sum(got.values()) / CALLERS
    figures = [
        Figure("farthest from its fair share", max(abs(count / fair - 1) for count in got.values()) * 100, "%", scale.at_most(5)),
        Figure("Jain's index", index, "", scale.at_least(0.99)),
        Figure("answers that were counted", sum(got.values()), "", scale.at_least(CALLERS * scale.small / 2)),
        Figure("arrivals more, or fewer, than calls", abs(len(arrivals) - total), "", NONE),
        Figure("answers that were not exactly the call's order", bad, "", NONE),
    ]
    remarks = [f"at {scale.fair_rate} sends a second; nothing was pinned"]
    return Report(f"fairness: {CALLERS} callers, one with {TIMES_MORE} times as many calls", figures, remarks, {"answers": got})


async def _compete(stage: Stage, counts: Mapping[str, int]) -> tuple[dict[str, list[float]], int, float]:
    """Gives when each caller's calls were answered, how many answers were wrong, and since when all had calls waiting."""
    callers = [caller for caller, count in counts.items() for _ in range(count)]
    orders = range(FIRST_ORDER, FIRST_ORDER + len(callers))
    requests = [stage.call("shared", f"orderIds={order}", caller) for caller, order in zip(callers, orders, strict=True)]
    async with connected(stage.gateway.address, len(requests)) as connections, connected(stage.gateway.address, 1) as (probe,):
        asking = [asyncio.ensure_future(ask(*pair)) for pair in zip(connections, requests, strict=True)]
        await asyncio.sleep(0)  # all are written by the loop's next turn, the probe after them
        await ask(probe, stage.call("probe", f"orderIds={orders.stop}", callers[0]))
        await asyncio.sleep(SETTLED)
        began = time.monotonic()
        told: list[Told] = await asyncio.gather(*asking)
    answered: dict[str, list[float]] = {caller: [] for caller in counts}
    for caller, one in zip(callers, told, strict=True):
        answered[caller].append(one.answered)
    return answered, wrong(told, orders), began


def shares(answered: Mapping[str, Sequence[float]], began: float) -> dict[str, int]:
    """How many answers each caller got from `began` until the first of them had got its last."""
    ends = min(max(times) for times in answered.values())
    return {caller: sum(began <= time < ends for time in times) for caller, times in answered.items()}


def jain(counts: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all are equal, 1/n where one has all.

    Raises:
        ValueError: nobody has anything.
    """
    if not any(counts):
        message = "nobody got anything while all competed"
        raise ValueError(message)
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))
