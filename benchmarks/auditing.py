"""What the record adds to a call on an idle lane: a gateway beside the same one whose records count as written at once (`unrecorded`).

Calls go one at a time, through both in turns, each gateway before a simulator of its own. Every lane gets one call a round, and rounds
begin further apart than a slot is held, so no call waits for its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.client import Connection, connected
from benchmarks.figures import Figure, Report, percentile
from benchmarks.latency import ROUND_SECONDS, timed
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER

__all__ = ["measure"]

RECORDED, UNRECORDED = "recorded", "unrecorded"
GATEWAYS = {RECORDED: "app.cli", UNRECORDED: "benchmarks.unrecorded"}


@dataclass(frozen=True, slots=True)
class Way:
    """A gateway, and the connection to it."""

    stage: Stage
    connection: Connection


async def measure(scale: Scale) -> Report:
    """Measure it. The first round warms connections and code up; it is not counted.

    Raises:
        RuntimeError: a call wasn't answered with 200.
    """
    names = [f"lane-{number}" for number in range(scale.lanes)]
    async with AsyncExitStack() as stack:
        ways = {way: await _opened(stack, Cast(tokens=names, program=program)) for way, program in GATEWAYS.items()}
        for way in ways.values():
            await way.stage.warm()
        rounds = [await _round(ways, names) for _ in range(scale.rounds + 1)]
    return _report({way: [took for one in rounds[1:] for took in one[way]] for way in ways})


async def _opened(stack: AsyncExitStack, cast: Cast) -> Way:
    stage = await stack.enter_async_context(opened(cast))
    (connection,) = await stack.enter_async_context(connected(stage.gateway.address, 1))
    return Way(stage, connection)


async def _round(ways: Mapping[str, Way], names: list[str]) -> dict[str, list[float]]:
    """A call for every lane through both, each as often the first as the second; in ms."""
    began, found = time.monotonic(), {way: list[float]() for way in ways}
    for number, name in enumerate(names):
        for way in list(ways)[:: 1 if number % 2 else -1]:
            request = ways[way].stage.call(name, f"orderIds={FIRST_ORDER}")
            found[way].append((await timed(ways[way].connection, request))[0])
    await asyncio.sleep(max(0.0, began + ROUND_SECONDS - time.monotonic()))
    return found


def _report(found: Mapping[str, list[float]]) -> Report:
    recorded, unrecorded = ((percentile(found[way], 0.5), percentile(found[way], 0.99)) for way in (RECORDED, UNRECORDED))
    figures = [
        Figure("with the record on disk, median", recorded[0], "ms"),
        Figure("as if it were on disk at once, median", unrecorded[0], "ms"),
        Figure("added by the record, median", recorded[0] - unrecorded[0], "ms"),
        Figure("added by the record, 99th percentile less the other's", recorded[1] - unrecorded[1], "ms"),
    ]
    remarks = [
        f"{len(found[RECORDED])} calls each way; an answer waits for two commits, one before the send and one after",
        "nothing was pinned",
    ]
    return Report("auditing: what the record adds to a call on an idle lane", figures, remarks)
