"""The cost of taking a call into a lane's queue and releasing one, with few and with many calls waiting. Pure: no I/O, simulated time."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.dispatch.lane import Lane, LanePolicy, Release, Waiting
from benchmarks.figures import Bound, Figure, Report
from benchmarks.scale import Scale

__all__ = ["Queue", "measure"]

FEW = 10
CALLERS = 500
BLOCK = 100
STEP = 0.6
"""Simulated seconds between two releases: a slot is open each time."""
FOR_EVER = 1e12


class Queue:
    """A lane that always holds `depth` waiting calls, dealt over up to 500 callers: the one place that knows the core's names.

    `exchange` takes one more call in and releases one, so that the depth stays; it gives what both cost together, in nanoseconds.
    What the send then tells the lane isn't counted.
    """

    def __init__(self, depth: int) -> None:
        policy = LanePolicy(depth=depth + 1, caller_depth=depth + 1)
        self._now = 10.0
        self._lane = Lane.cold(policy, 0.0)
        self._callers = [f"caller-{number}" for number in range(min(CALLERS, depth))]
        self._number = 0
        rejected = [one for one in (self._lane.enter(self._made(), self._now) for _ in range(depth)) if one]
        if rejected:
            message = f"the lane took {len(rejected)} of {depth} calls not in: {rejected[0]}"
            raise RuntimeError(message)

    def exchange(self) -> int:
        """One call in, one out.

        Raises:
            RuntimeError: the lane took no call, or released none.
        """
        self._now += STEP
        lane, now, made = self._lane, self._now, self._made()
        began = time.perf_counter_ns()
        rejected = lane.enter(made, now)
        released = lane.next(now)
        took = time.perf_counter_ns() - began
        if rejected or not isinstance(released, Release):
            message = "a lane with an open slot released nothing"
            raise RuntimeError(message)
        self._end(released)
        return took

    def drain(self) -> int:
        """How many sends it takes to empty the queue: as many as calls should wait, or calls were lost, or shared a send."""
        sends = 0
        while True:
            self._now += STEP
            released = self._lane.next(self._now)
            if not isinstance(released, Release):
                return sends
            self._end(released)
            sends += 1

    def _end(self, released: Release) -> None:
        self._lane.written(released.hold, self._now)
        self._lane.answered(released.hold, self._now)
        self._lane.ended(released.hold, self._now)

    def _made(self) -> Waiting:
        self._number += 1
        caller = self._callers[self._number % len(self._callers)]
        return Waiting(call_id=f"call-{self._number}", caller_id=caller, deadline=FOR_EVER)


async def measure(scale: Scale) -> Report:
    """Measure it, both queues in turns, so that a noisy moment hits both."""
    few, many = Queue(FEW), Queue(scale.depth)
    of_few: list[int] = []
    of_many: list[int] = []
    with _no_collector():
        for _ in range(scale.repetitions // BLOCK):
            of_few += [few.exchange() for _ in range(BLOCK)]
            of_many += [many.exchange() for _ in range(BLOCK)]
    cost_of_few, cost_of_many = statistics.median(of_few) / 1_000, statistics.median(of_many) / 1_000
    strayed = abs(few.drain() - FEW) + abs(many.drain() - scale.depth)
    figures = [
        Figure(f"enqueue plus release with {FEW} waiting, median", cost_of_few, "us"),
        Figure(f"enqueue plus release with {scale.depth:,} waiting, median", cost_of_many, "us"),
        Figure("ratio", cost_of_many / cost_of_few, "", scale.at_most(1.5)),
        Figure("calls that the queues held more, or fewer, at the end", strayed, "", Bound("≤", 0)),
    ]
    remark = f"{len(of_few):,} of each, of {FEW} callers and of {CALLERS}; in this process, not pinned, the garbage collector off"
    return Report("queue: what enqueue plus release cost, by depth", figures, [remark])


@contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
