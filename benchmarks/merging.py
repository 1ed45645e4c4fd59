"""Many callers who each link one order through one token at the same moment: how many sends that takes, and whether each gets its own."""

from __future__ import annotations

from benchmarks.crowd import ask_all, wrong
from benchmarks.figures import Bound, Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import Cast, opened
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import breaches

__all__ = ["measure"]

NONE = Bound("≤", 0)
CAP = 50
"""IDs that one send may carry."""
WAIT = 30
"""Seconds that a caller waits: long enough for many times the sends that it should take, and short where nothing is merged."""


async def measure(scale: Scale) -> Report:
    """Measure it with merging on, the lane idle and warm: the first two calls find it open and go alone."""
    callers = [f"caller-{number}" for number in range(scale.merged)]
    orders = range(FIRST_ORDER, FIRST_ORDER + scale.merged)
    cast = Cast(tokens=["shared"], callers=callers, orders=scale.merged, environment={"GATEWAY_COALESCE": "true"})
    async with opened(cast) as stage:
        await stage.warm()
        requests = [stage.call("shared", f"orderIds={order}", caller, WAIT) for order, caller in zip(orders, callers, strict=True)]
        answers = await ask_all(stage.gateway.address, requests)
        [arrivals] = await stage.recorder.arrivals("shared")
    most = -(-scale.merged // CAP) + 2
    figures = [
        Figure("sends", len(arrivals), "", Bound("≤", most)),
        Figure("arrivals that broke a window", breaches(arrivals), "", NONE),
        Figure("answers that were not exactly the caller's order", wrong(answers, orders), "", NONE),
        Figure("until the last answer", max(told.took for told in answers), "s"),
    ]
    return Report(f"merging: {scale.merged} callers each link one order through one token", figures, ["nothing was pinned"])
