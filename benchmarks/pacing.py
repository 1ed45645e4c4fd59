"""One token with many waiting calls, from a cold start: whether the limit is kept, and how much of it is used, as the upstream saw it.

Four lanes of one gateway go at the same time, each over a network of its own; at the same time, a gateway of its own sends through a
relay that makes each connection slow to set up. Afterwards a gateway of its own shares its core with a process that never rests.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cores import apart, placement
from benchmarks.crowd import ask_all, wrong
from benchmarks.figures import Bound, Figure, Report
from benchmarks.processes import Child, free_address, spawned
from benchmarks.recorder import Span
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import breaches, most_in_any_window, utilisation

__all__ = ["SLOW_NETWORK", "measure"]

NONE = Bound("≤", 0)
SLOW_NETWORK: Span = (0.02, 0.06)
"""The usual slow network: 20 to 60 ms each way."""
SET_UP = 0.15
LEAST_SET_UP = 0.145
"""A client has its connection a moment before the relay knows that it has."""
HOG = "while True: pass"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its token, what it is called, the network out and back, and the least share of the budget, where there is a bound."""

    token: str
    title: str
    out: Span = (0.0, 0.0)
    back: Span = (0.0, 0.0)
    least: float | None = None


TOGETHER = (
    Run("loopback", "loopback", least=0.99),
    Run("wide", "20-60 ms each way", SLOW_NETWORK, SLOW_NETWORK, 0.935),
    Run("narrow", "35-40 ms out, 40-60 ms back", (0.035, 0.04), (0.04, 0.06), 0.94),
    Run("slow", "answers after 0.5-3 s", (0.0, 0.0), (0.5, 3.0), 0.79),
)
CONNECTING = Run("connecting", "a connection a call, 150 ms to set up", least=0.85)
HOGGED = Run("hogged", "a CPU hog on the gateway's core")


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a run: the arrivals, in monotonic seconds, and how many answers were wrong."""

    run: Run
    arrivals: list[float]
    wrong: int


async def measure(scale: Scale) -> Report:
    """Measure it, each gateway fresh, so that its lanes are cold."""
    together, (connecting, connections, set_up) = await asyncio.gather(_networks(scale), _connecting(scale))
    hogged, where = await _hogged(scale)
    found = [*together, connecting, hogged]
    figures = [figure for one in found for figure in _figures(one, scale)]
    figures += [
        Figure(f"{CONNECTING.title}: calls on a connection that was used before", scale.paced - connections, "", NONE),
        Figure(f"{CONNECTING.title}: time to set up, as another client found", set_up * 1_000, "ms", Bound("≥", LEAST_SET_UP * 1_000)),
    ]
    remarks = ["nothing was pinned but in the run with the hog", where]
    details = {one.run.token: [round(time - one.arrivals[0], 4) for time in one.arrivals] for one in found}
    return Report(f"pacing: {scale.paced} calls wait for one token, from a cold start", figures, remarks, {"arrivals_s": details})


async def _networks(scale: Scale) -> list[Found]:
    async with opened(Cast(tokens=[run.token for run in TOGETHER], orders=len(TOGETHER) * scale.paced)) as stage:
        for run in TOGETHER:
            await stage.recorder.network([run.token], run.out, run.back)
        places = range(FIRST_ORDER, FIRST_ORDER + len(TOGETHER) * scale.paced, scale.paced)
        return await asyncio.gather(*(_wait_together(stage, run, first, scale) for run, first in zip(TOGETHER, places, strict=True)))


async def _connecting(scale: Scale) -> tuple[Found, int, float]:
    """Gives also how many connections the gateway's calls took, and how long another client's took to set up, in seconds."""
    async with opened(Cast(tokens=[CONNECTING.token], orders=scale.paced, set_up=SET_UP)) as stage:
        assert stage.relay
        await stage.recorder.close_after_answers(CONNECTING.token)
        set_up = await stage.relay.set_up_seconds()
        await asyncio.sleep(SET_UP)  # the relay counts a connection a moment after its client has it
        before = stage.relay.connections()
        found = await _wait_together(stage, CONNECTING, FIRST_ORDER, scale)
        return found, stage.relay.connections() - before, set_up


async def _hogged(scale: Scale) -> tuple[Found, str]:
    async with opened(Cast(tokens=[HOGGED.token], orders=scale.paced)) as stage:
        where = placement("gateway and hog", "simulator and clients")
        with _hog() as hog, apart(stage.gateway, hog, beside=stage.simulator):
            before = hog.cpu_seconds()
            found = await _wait_together(stage, HOGGED, FIRST_ORDER, scale)
            seconds = found.arrivals[-1] - found.arrivals[0]
            return found, f"{where}; the hog used {hog.cpu_seconds() - before:.0f} s of the core's {seconds:.0f} s"


@contextmanager
def _hog() -> Iterator[Child]:
    with tempfile.TemporaryDirectory() as folder, spawned(["-c", HOG], free_address(), Path(folder) / "hog.log") as hog:
        yield hog


async def _wait_together(stage: Stage, run: Run, first: int, scale: Scale) -> Found:
    """Make all calls at once, each with an order of its own, so that none shares another's send."""
    orders = range(first, first + scale.paced)
    answers = await ask_all(stage.gateway.address, [stage.call(run.token, f"orderIds={order}") for order in orders])
    [arrivals] = await stage.recorder.arrivals(run.token)
    return Found(run, arrivals, wrong(answers, orders))


def _figures(found: Found, scale: Scale) -> Sequence[Figure]:
    title, times = found.run.title, found.arrivals
    least = None if found.run.least is None else scale.at_least(found.run.least)
    return [
        Figure(f"{title}: arrivals that broke a window", breaches(times), "", NONE),
        Figure(f"{title}: most arrivals in any second", most_in_any_window(times), "", Bound("≤", 2)),
        Figure(f"{title}: utilisation", utilisation(times), "", least),
        Figure(f"{title}: arrivals more, or fewer, than calls", abs(len(times) - scale.paced), "", NONE),
        Figure(f"{title}: answers that were not exactly the call's order", found.wrong, "", NONE),
    ]
