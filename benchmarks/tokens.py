"""Many tokens, each with work waiting all the time, and one core for the gateway: whether each token's limit is kept, and used.

Once over HTTP, and once with more tokens and the calls made in the gateway's process (`inprocess`). Each token gets its calls four at a
time: two are sent, two wait. All tokens begin at the same moment, which is harder than beginning by and by.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Connection, connected
from benchmarks.cores import apart, placement
from benchmarks.crowd import ask, linked
from benchmarks.figures import Bound, Figure, Report
from benchmarks.memory import open_files_for
from benchmarks.processes import free_address, spawned
from benchmarks.recorder import Recorder
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, gateway_variables, opened, prepare, simulated
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import breaches, utilisation

__all__ = ["AT_ONCE", "measure", "share"]

NONE = Bound("≤", 0)
AT_ONCE = 4
"""Calls of a token that are under way or waiting."""
TOLERANCE = 0.01
BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one way: each token's arrivals, how many answers were wrong, and what share of a core was used (0 to 1)."""

    arrivals: Sequence[Sequence[float]]
    wrong: int
    gateway_share: float
    simulator_share: float


async def measure(scale: Scale) -> Report:
    """Measure both ways, one after the other."""
    over_http, within = await _over_http(scale), await _within(scale)
    figures = [
        *_figures(f"{scale.tokens_http:,} tokens over HTTP", over_http, scale),
        *_figures(f"{scale.tokens_within:,} tokens in process", within, scale),
    ]
    return Report(
        f"tokens: many at once, {scale.sends} calls each",
        figures,
        [placement("the gateway", "simulator and clients")],
    )


def share(first: int, count: int) -> Iterator[int]:
    """The orders of one token: numbers that no other token has."""
    return iter(range(first, first + count))


async def _over_http(scale: Scale) -> Found:
    names = [f"token-{number}" for number in range(scale.tokens_http)]
    connections = open_files_for(AT_ONCE * len(names))
    assert connections == AT_ONCE * len(names), "the bound on open files is too low"
    async with opened(Cast(tokens=names, orders=len(names) * scale.sends)) as stage:
        await stage.warm()
        with apart(stage.gateway, beside=stage.simulator):
            async with connected(stage.gateway.address, connections) as clients:
                before = time.monotonic(), stage.gateway.cpu_seconds(), stage.simulator.cpu_seconds()
                counts = await asyncio.gather(*(_feed(stage, name, place, clients, scale) for place, name in enumerate(names)))
                took = time.monotonic() - before[0]
                shares = [(stage.gateway.cpu_seconds() - before[1]) / took, (stage.simulator.cpu_seconds() - before[2]) / took]
        return Found(await stage.recorder.arrivals(*names), sum(counts), *shares)


async def _feed(stage: Stage, name: str, place: int, clients: Sequence[Connection], scale: Scale) -> int:
    """Make a token's calls; gives how many answers were wrong."""
    orders = share(FIRST_ORDER + place * scale.sends, scale.sends)

    async def client(connection: Connection) -> int:
        return sum([linked(await ask(connection, stage.call(name, f"orderIds={order}"))) != [order] for order in orders])

    return sum(await asyncio.gather(*(client(one) for one in clients[place * AT_ONCE : (place + 1) * AT_ONCE])))


async def _within(scale: Scale) -> Found:
    cast = Cast(tokens=[f"token-{number}" for number in range(scale.tokens_within)], orders=scale.tokens_within * scale.sends)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        [key] = (await prepare(folder / "state", cast)).values()
        (folder / "key").write_text(key, encoding="ascii")
        with simulated(folder, cast) as simulator:
            await simulator.ready("/_simulator/health")
            variables = gateway_variables(folder / "state", simulator.address.url, {})
            arguments = ["-m", "benchmarks.inprocess", str(folder), str(scale.sends)]
            with (
                spawned(arguments, free_address(), folder / "inprocess.log", variables) as gateway,
                apart(gateway, beside=simulator),
            ):
                before = simulator.cpu_seconds()
                await gateway.ended()
                found = _result(folder)
                simulator_share = (simulator.cpu_seconds() - before) / found["seconds"]
            arrivals = await Recorder(simulator.address).arrivals(*cast.tokens)
        return Found(arrivals, int(found["wrong"]), found["cpu"] / found["seconds"], simulator_share)


def _result(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "result.json").read_text(encoding="ascii"))
    return found


def _figures(title: str, found: Found, scale: Scale) -> list[Figure]:
    used = [utilisation(times) for times in found.arrivals]
    calls = len(found.arrivals) * scale.sends
    return [
        Figure(f"{title}: broke a window by over 10 ms", sum(breaches(times, TOLERANCE) for times in found.arrivals), "", NONE),
        Figure(f"{title}: broke a window at all", sum(breaches(times) for times in found.arrivals)),
        Figure(f"{title}: utilisation, mean", statistics.mean(used), "", scale.at_least(0.98)),
        Figure(f"{title}: utilisation, the least token's", min(used)),
        Figure(f"{title}: arrivals more, or fewer, than calls", abs(sum(map(len, found.arrivals)) - calls), "", NONE),
        Figure(f"{title}: answers that were not exactly the call's order", found.wrong, "", NONE),
        Figure(f"{title}: share of its core that the gateway used", found.gateway_share),
        Figure(f"{title}: share of its core that the simulator used", found.simulator_share),
    ]
