"""The lane in simulated time, under anything that can happen: no window breaks, no call is lost, nothing is answered twice."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from app.dispatch.lane import Hold, Lane, LanePolicy, Release, Waiting

DELAYS = st.floats(0, 3, allow_nan=False)
WITHIN_GUARD = st.floats(0, 0.25, allow_nan=False)


@dataclass(frozen=True)
class Fate:
    """What befalls one send, in seconds: set-up before the write, the way there, the way back; and whether its answer is lost."""

    set_up: float
    out: float
    back: float
    fails_unsent: bool
    lost: bool


FATES = st.builds(Fate, DELAYS, WITHIN_GUARD, DELAYS, st.sampled_from([False] * 4 + [True]), st.sampled_from([False] * 4 + [True]))


@dataclass
class World:
    """A lane, the sends under way, and what the upstream sees; time moves from event to event."""

    lane: Lane
    fates: list[Fate]
    arrivals: list[float] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    now: float = 0.0
    _events: list[tuple[float, int, str, Hold, str]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        """Go on until nothing happens any more."""
        while True:
            decision = self.lane.next(self.now)
            if isinstance(decision, Release):
                self._send(decision.waiting.call_id, decision.hold)
                continue
            times = [event[0] for event in self._events[:1]] + [decision.until for _ in [0] if decision.until is not None]
            if not times:
                return
            self.now = max(self.now, min(times))
            while self._events and self._events[0][0] <= self.now:
                self._happen(*heapq.heappop(self._events)[2:])

    def _send(self, call_id: str, hold: Hold) -> None:
        fate = self.fates[len(self.done) % len(self.fates)]
        self.done.append(call_id)
        if fate.fails_unsent:
            self._at(self.now + fate.set_up, "unsent", hold, call_id)
            return
        written = self.now + fate.set_up
        self.arrivals.append(written + fate.out)
        self._at(written, "written", hold, call_id)
        self._at(written + fate.out + fate.back, "lost" if fate.lost else "answered", hold, call_id)

    def _at(self, time: float, what: str, hold: Hold, call_id: str) -> None:
        heapq.heappush(self._events, (time, next(self._order), what, hold, call_id))

    def _happen(self, what: str, hold: Hold, _call_id: str) -> None:
        if what == "written":
            self.lane.written(hold, self.now)
        elif what == "answered":
            self.lane.answered(hold, self.now)
            self.lane.ended(hold, self.now, answered=True)
        else:
            self.lane.ended(hold, self.now, answered=False)


def most_in_any(arrivals: list[float], per: float) -> int:
    """The most arrivals in any half-open window, with room for the rounding of floating point only."""
    times = sorted(arrivals)
    return max((sum(start <= time < start + per - 1e-9 for time in times) for start in times), default=0)


@given(fates=st.lists(FATES, min_size=1, max_size=12), calls=st.integers(1, 30), rate=st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_no_window_breaks_while_no_request_takes_longer_than_the_guard_to_arrive(fates: list[Fate], calls: int, rate: int) -> None:
    """Whatever set-up, answers, losses and failures do, no second sees more arrivals than the rate; and every call goes once, in order."""
    world = World(Lane.cold(LanePolicy(slots=rate), 0), fates)
    names = [f"call-{number}" for number in range(calls)]
    for name in names:
        world.lane.enter(Waiting(name, "a", 1_000_000), 0)
    world.run()

    assert most_in_any(world.arrivals, 1.0) <= rate
    assert world.done == names
    assert world.lane.in_flight == 0
    assert world.lane.waiting == []


@given(round_trip=st.floats(0, 0.2), calls=st.integers(4, 60))
@settings(max_examples=100, deadline=None)
def test_the_budget_is_not_wasted(round_trip: float, calls: int) -> None:
    """With work waiting, each slot is used again as soon as the rule allows: `per` and one round trip after it was used before."""
    world = World(Lane(LanePolicy(), 0), [Fate(0, round_trip / 2, round_trip / 2, fails_unsent=False, lost=False)])
    for number in range(calls):
        world.lane.enter(Waiting(str(number), "a", 1_000_000), 0)
    world.run()

    rounds = (calls - 1) // 2
    assert max(world.arrivals) - min(world.arrivals) <= rounds * (1 + round_trip) + 1e-6


@given(ahead=st.integers(0, 40), round_trip=st.floats(0, 0.25))
@settings(max_examples=100, deadline=None)
def test_the_predicted_wait_comes_true(ahead: int, round_trip: float) -> None:
    """On a steady network a call has its answer when it was predicted."""
    world = World(Lane(LanePolicy(), 0), [Fate(0, round_trip / 2, round_trip / 2, fails_unsent=False, lost=False)])
    world.lane.enter(Waiting("first", "a", 1_000_000), 0)
    world.run()
    began = world.now
    for number in range(ahead):
        world.lane.enter(Waiting(str(number), "a", 1_000_000), began)
    predicted = world.lane.predicted_wait(ahead, began)
    world.lane.enter(Waiting("last", "a", 1_000_000), began)
    world.run()

    assert world.now - began <= predicted + 1e-6
