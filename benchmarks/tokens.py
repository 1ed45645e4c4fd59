"""Many tokens, each with work waiting all the time, and one core for the gateway: whether each token's limit is kept, and used.

Once over HTTP, and once with more tokens and the calls made in the gateway's process (`inprocess`). Each token gets its calls four at a
time: two are sent, two wait. 250 tokens begin in each second; what share of its budget a token used is told by its arrivals from the
moment when all have begun until the first has ended.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
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
from benchmarks.windows import RATE, breaches, utilisation

__all__ = ["AT_ONCE", "BEGIN_A_SECOND", "TOLERANCE", "measure", "share", "used_together"]

NONE = Bound("≤", 0)
AT_ONCE = 4
"""Calls of a token that are under way or waiting."""
BEGIN_A_SECOND = 250
TOLERANCE = 0.01
BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one way.

    `arrivals` are each token's; `wrong` are the answers that were not exactly the call's order. The rest are shares of a core (0 to 1): of
    the gateway's own, and of the other, which simulator and clients share.
    """

    arrivals: Sequence[Sequence[float]]
    wrong: Sequence[str]
    gateway_share: float
    simulator_share: float
    clients_share: float


async def measure(scale: Scale) -> Report:
    """Measure both ways, one after the other."""
    over_http, within = await _over_http(scale), await _within(scale)
    found = {f"{scale.tokens_http:,} tokens over HTTP": over_http, f"{scale.tokens_within:,} tokens in process": within}
    figures = [figure for title, one in found.items() for figure in _figures(title, one, scale)]
    remarks = [placement("the gateway", "simulator and clients"), *(_remark(title, one) for title, one in found.items())]
    return Report(f"tokens: many at once, {scale.sends} calls each", figures, remarks)


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
                before = _spent(stage)
                wrong = await asyncio.gather(*(_feed(stage, name, place, clients, scale) for place, name in enumerate(names)))
                took, *used = (after - earlier for after, earlier in zip(_spent(stage), before, strict=True))
        return Found(await stage.recorder.arrivals(*names), [*chain(*wrong)], *(seconds / took for seconds in used))


def _spent(stage: Stage) -> tuple[float, float, float, float]:
    """The time, and the CPU time of gateway, simulator and this process; in seconds."""
    return time.monotonic(), stage.gateway.cpu_seconds(), stage.simulator.cpu_seconds(), time.process_time()


async def _feed(stage: Stage, name: str, place: int, clients: Sequence[Connection], scale: Scale) -> list[str]:
    """Make a token's calls; gives the answers that were wrong."""
    orders, wrong = share(FIRST_ORDER + place * scale.sends, scale.sends), []

    async def client(connection: Connection) -> None:
        for order in orders:
            told = await ask(connection, stage.call(name, f"orderIds={order}"))
            if linked(told) != [order]:
                wrong.append(told.answer.body.decode(errors="replace"))

    await asyncio.sleep(place / BEGIN_A_SECOND)
    await asyncio.gather(*(client(one) for one in clients[place * AT_ONCE : (place + 1) * AT_ONCE]))
    return wrong


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
                seconds, cpu, wrong = json.loads((folder / "result.json").read_text(encoding="utf-8"))
                simulator_share = (simulator.cpu_seconds() - before) / seconds
            arrivals = await Recorder(simulator.address).arrivals(*cast.tokens)
        return Found(arrivals, wrong, cpu / seconds, simulator_share, 0.0)


def used_together(arrivals: Sequence[Sequence[float]]) -> list[float]:
    """What share of its budget each token used while all had work; 0 where it had not even three arrivals then."""
    if not all(arrivals):
        return [0.0] * len(arrivals)
    begin, end = max(times[0] for times in arrivals), min(times[-1] for times in arrivals)
    return [_used([time for time in times if begin <= time <= end]) for times in arrivals]


def _used(times: Sequence[float]) -> float:
    return utilisation(times) if len(times) > RATE else 0.0


def _figures(title: str, found: Found, scale: Scale) -> list[Figure]:
    used = used_together(found.arrivals)
    calls = len(found.arrivals) * scale.sends
    return [
        Figure(f"{title}: broke a window by over 10 ms", sum(breaches(times, TOLERANCE) for times in found.arrivals), "", NONE),
        Figure(f"{title}: broke a window at all", sum(breaches(times) for times in found.arrivals)),
        Figure(f"{title}: utilisation, mean", statistics.mean(used), "", scale.at_least(0.98)),
        Figure(f"{title}: utilisation, the least token's", min(used)),
        Figure(f"{title}: utilisation, mean, each over all of its arrivals", statistics.mean(map(_used, found.arrivals))),
        Figure(f"{title}: arrivals more, or fewer, than calls", abs(sum(map(len, found.arrivals)) - calls), "", NONE),
        Figure(f"{title}: answers that were not exactly the call's order", len(found.wrong), "", NONE),
    ]


def _remark(title: str, found: Found) -> str:
    """Where the time went; and, where answers were wrong, the first of them."""
    shares = f"the gateway used {found.gateway_share:.0%} of its core, the simulator {found.simulator_share:.0%} of the other"
    busy = "; the other core was busy, so what the gateway can do may be more" if found.simulator_share + found.clients_share > BUSY else ""
    wrong = f"; {len(found.wrong)} wrong answers, the first: {found.wrong[0]}" if found.wrong else ""
    return f"{title}: {shares}, the clients {found.clients_share:.0%}{busy}{wrong}"
