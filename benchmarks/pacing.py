"""One token with many waiting calls, from a cold start: whether the limit is kept, and how much of it is used, as the upstream saw it.

Two lanes at the same time: one over loopback as it is, one over a network that takes 20 to 60 ms, at random, each way.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from benchmarks.client import connected
from benchmarks.figures import Bound, Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import Stage
from benchmarks.windows import RATE, breaches, most_in_any_window, utilisation

__all__ = ["measure"]

FIRST_ORDER = 1001


async def measure(stage: Stage, scale: Scale) -> Report:
    """Measure it. The stage must be fresh, for its lanes to be cold."""
    await stage.slow_network("jittery")
    statuses = await asyncio.gather(_wait_together(stage, "steady", scale), _wait_together(stage, "jittery", scale))
    steady, jittery = await stage.arrivals("steady"), await stage.arrivals("jittery")
    figures = [
        Figure("most arrivals in any second", most_in_any_window(steady), "", Bound("≤", RATE)),
        Figure("utilisation", utilisation(steady), "", Bound("≥", scale.least_utilisation)),
        Figure("calls that were not answered 200", _failed(statuses[0]), "", Bound("≤", 0)),
        Figure("20-60 ms each way: most arrivals in any second", most_in_any_window(jittery)),
        Figure("20-60 ms each way: arrivals that broke a window", breaches(jittery)),
        Figure("20-60 ms each way: utilisation", utilisation(jittery)),
        Figure("20-60 ms each way: calls that were not answered 200", _failed(statuses[1])),
    ]
    details = {"steady_s": _from_first(steady), "jittery_s": _from_first(jittery)}
    return Report(f"pacing: {scale.waiting} calls wait for one token, from a cold start", figures, [], details)


async def _wait_together(stage: Stage, token: str, scale: Scale) -> Counter[int]:
    """Make all calls at once, each with an order of its own, so that none shares another's send; gives how often each status came."""
    requests = [stage.call(token, f"orderIds={FIRST_ORDER + number}") for number in range(scale.waiting)]
    async with connected(stage.gateway.address, scale.waiting) as connections:
        pairs = zip(connections, requests, strict=True)
        answers = await asyncio.gather(*(connection.exchange(request) for connection, request in pairs))
    return Counter(answer.status for answer in answers)


def _failed(statuses: Counter[int]) -> int:
    return statuses.total() - statuses[200]


def _from_first(times: list[float]) -> list[float]:
    return [round(time - times[0], 4) for time in times]
