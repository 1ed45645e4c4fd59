"""A caller with many calls, and another with one, a second later: how long the one waits, and what that costs the many.

A second lane of the same gateway, at the same time, has the many calls alone; what its n-th arrival is to the first lane's tells how many
turns the many have lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.client import connected
from benchmarks.crowd import Told, ask, ask_all, wrong
from benchmarks.figures import Bound, Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import breaches

__all__ = ["measure", "turns_lost"]

NONE = Bound("≤", 0)
LATER = 1.0
MORE = 2
"""Calls that the lane without a second caller has more, so that a turn lost at the end shows."""
SLACK = 0.45
"""Seconds by which two lanes may drift apart; a turn lost is a second late for half of the calls after it."""


async def measure(scale: Scale) -> Report:
    """Measure it, the lanes warm."""
    count = scale.queued
    many, one = range(FIRST_ORDER, FIRST_ORDER + count), FIRST_ORDER + count
    alone = range(one + 1, one + 1 + count + MORE)
    async with opened(Cast(tokens=["shared", "alone"], callers=["many", "one", "other"], orders=len(alone) + count + 1)) as stage:
        await stage.warm()
        of_many, of_one, of_alone = await asyncio.gather(
            ask_all(stage.gateway.address, [stage.call("shared", f"orderIds={order}", "many") for order in many]),
            _ask_later(stage, one),
            ask_all(stage.gateway.address, [stage.call("alone", f"orderIds={order}", "other") for order in alone]),
        )
        shared, without = await stage.recorder.arrivals("shared", "alone")
    bad = wrong([*of_many, of_one, *of_alone], [*many, one, *alone])
    lost = turns_lost(_without_the_one(shared, of_one), without)
    figures = [
        Figure(f"the one call, {LATER:g} s after the {count}: until its answer", of_one.took, "s", scale.at_most(1.1)),
        Figure("turns that the many lost by it", lost, "", scale.at_most(1)),
        Figure("arrivals that broke a window", breaches(shared) + breaches(without), "", NONE),
        Figure("arrivals more, or fewer, than calls", abs(len(shared) - count - 1) + abs(len(without) - len(alone)), "", NONE),
        Figure("answers that were not exactly the call's order", bad, "", NONE),
    ]
    with_it, without_it = max(told.took for told in of_many), sorted(told.took for told in of_alone)[count - 1]
    remarks = [
        f"the many's last call was answered after {with_it:.2f} s, the same call of the lane without the one after {without_it:.2f} s",
        "nothing was pinned",
    ]
    return Report("contention: one call behind another caller's many", figures, remarks)


async def _ask_later(stage: Stage, order: int) -> Told:
    async with connected(stage.gateway.address, 1) as (connection,):
        await asyncio.sleep(LATER)
        return await ask(connection, stage.call("shared", f"orderIds={order}", "one"))


def _without_the_one(arrivals: Sequence[float], one: Told) -> list[float]:
    """A lane's arrivals but for the one call's: the last before its answer. The window's other may be taken for it, a few ms apart."""
    its = max((time for time in arrivals if time < one.answered), default=None)
    return [time for time in arrivals if time != its]


def turns_lost(with_another: Sequence[float], alone: Sequence[float]) -> int:
    """How many turns later the sends of a lane came than those of a lane that had no other caller; times from each lane's first arrival."""
    mine = [time - with_another[0] for time in with_another]
    theirs = [time - alone[0] for time in alone]
    lost = 0
    for place, time in enumerate(mine):
        while place + lost < len(theirs) and time > theirs[place + lost] + SLACK:
            lost += 1
    return lost
