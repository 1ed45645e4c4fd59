"""A lane with work waiting, simulated over networks whose delays are drawn at random. Pure; times in seconds."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from app.dispatch.lane import Hold, Lane, LanePolicy, Release, Waiting
from app.domain import Pacing

__all__ = ["ABSURD", "NETWORKS", "Measured", "Network", "Range", "arrivals", "measure"]

Range = tuple[float, float]
ROUNDING = 1e-9
PEER = "upstream"


@dataclass(frozen=True)
class Network:
    """What a send meets, each drawn evenly from a range: getting ready to be written, the way there, the upstream's work, the way back."""

    name: str
    set_up: Range = (0.0, 0.0)
    out: Range = (0.0001, 0.0005)
    work: Range = (0.0, 0.0)
    back: Range = (0.0001, 0.0005)


NETWORKS = (
    Network("loopback"),
    Network("20 to 60 ms each way", out=(0.020, 0.060), back=(0.020, 0.060)),
    Network("35 to 40 ms out, 40 to 60 ms back", out=(0.035, 0.040), back=(0.040, 0.060)),
    Network("150 ms of set-up each", set_up=(0.150, 0.150)),
    Network("answers after 0.5 to 3 s", work=(0.5, 3.0)),
)
ABSURD = Network("5 to 80 ms each way", out=(0.005, 0.080), back=(0.005, 0.080))
"""Ways so uneven that what was learned of them may break a window now and then."""


@dataclass(frozen=True)
class Measured:
    """What came of many runs: arrivals that broke a window, in all; and the shares of the budget used, on average and at least."""

    network: str
    runs: int
    violations: int
    mean: float
    least: float


@dataclass
class _Run:
    """One run: the lane, and what is still to happen."""

    lane: Lane
    network: Network
    draws: random.Random
    arrivals: list[float] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def play(self) -> list[float]:
        """Go on from event to event until nothing happens any more."""
        now = 0.0
        while True:
            decision = self.lane.next(now, self._ahead)
            if isinstance(decision, Release):
                self._send(decision.hold, now)
                continue
            times = [event[0] for event in self._events[:1]] + ([decision.until] if decision.until is not None else [])
            if not times:
                return sorted(self.arrivals)
            now = max(now, min(times))
            while self._events and self._events[0][0] <= now:
                at, _, happen = heapq.heappop(self._events)
                happen(at)

    @property
    def _ahead(self) -> float:
        """As the driver has it: a quarter more than it takes to get ready, at least 2 ms."""
        return max(1.25 * self.network.set_up[1], 0.002)

    def _send(self, hold: Hold, now: float) -> None:
        self._at(now + self.draws.uniform(*self.network.set_up), lambda at: self._ready(hold, at))

    def _ready(self, hold: Hold, now: float) -> None:
        """It is written when its slot opens; until then that may change."""
        opens = self.lane.opens_for(hold)
        if opens > now:
            self._at(opens, lambda at: self._ready(hold, at))
            return
        self.lane.written(hold, now, PEER)
        arrived = now + self.draws.uniform(*self.network.out)
        answered = arrived + self.draws.uniform(*self.network.work) + self.draws.uniform(*self.network.back)
        self.arrivals.append(arrived)
        self._at(answered, lambda at: self._answered(hold, at))

    def _answered(self, hold: Hold, at: float) -> None:
        self.lane.answered(hold, at)
        self.lane.ended(hold, at)

    def _at(self, time: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), happen))


def arrivals(network: Network, *, sends: int = 120, seed: int = 0, pacing: Pacing = Pacing.LEARNED) -> list[float]:
    """When each of so many sends arrives at the upstream, from a cold start; ascending."""
    lane = Lane.cold(LanePolicy(pacing=pacing, depth=sends, caller_depth=sends), 0)
    for number in range(sends):
        lane.enter(Waiting(str(number), "caller", 1e9), 0)
    return _Run(lane, network, random.Random(seed)).play()  # noqa: S311 - a simulation's


def violations(times: Sequence[float]) -> int:
    """How many arrivals came within a second of the last but one; nothing is allowed for but the rounding of floating point."""
    return sum(later < earlier + 1 - ROUNDING for earlier, later in zip(times, times[2:], strict=False))


def measure(
    network: Network, *, runs: int, sends: int = 120, seeds: Iterable[int] | None = None, pacing: Pacing = Pacing.LEARNED
) -> Measured:
    """Simulate many runs; the n-th is the same each time."""
    played = [arrivals(network, sends=sends, seed=seed, pacing=pacing) for seed in seeds or range(runs)]
    shares = [(len(times) - 2) / 2 / (times[-1] - times[0]) for times in played]
    return Measured(network.name, len(played), sum(violations(times) for times in played), sum(shares) / len(shares), min(shares))
