"""The lane: whose turn it is, and when. Pure: no I/O, no clock; time goes in as an argument, decisions come out as values.

All times are in seconds on one monotonic clock of the caller's choosing.

The rule (first form, the guard's φ = 0): a lane has as many slots as its rate. A send takes one at its release and holds it until
`min(answered + per, written + per + guard)`. A request has arrived before its answer does, and never before it was written, so no window of
`per` seconds sees more arrivals than slots, unless a request takes longer than the guard to arrive.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

from app.domain import Burst
from app.errors import QueueFull, WaitTooLong

__all__ = ["Hold", "Lane", "LanePolicy", "LaneState", "Reject", "Release", "Wait", "Waiting"]

NEVER = math.inf
ROUND_TRIPS_KEPT = 31
ROUND_TRIP_AGE = 60.0


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """The bounds that a lane keeps: `slots` sends in any `per` seconds, `guard` in seconds, the rest in numbers of calls or sends."""

    slots: int = 2
    per: float = 1.0
    guard: float = 0.25
    depth: int = 1_000
    caller_depth: int = 200
    in_flight: int = 8

    @classmethod
    def of(cls, rate: int, burst: Burst, *, depth: int, caller_depth: int) -> LanePolicy:
        """The policy of a token: `rate` sends at once in each second, or, spaced, one in each `1/rate` seconds."""
        if burst is Burst.SPACED:
            return cls(1, 1 / rate, depth=depth, caller_depth=caller_depth)
        return cls(rate, 1.0, depth=depth, caller_depth=caller_depth)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits: its ID, its caller's, and until when it will."""

    call_id: str
    caller_id: str
    deadline: float


@dataclass(slots=True, eq=False)
class Hold:
    """A send's hold on its slot. Until it is written it holds without end."""

    released: float
    until: float = NEVER
    written: float | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Send this call now; the hold is to be told how the send goes."""

    waiting: Waiting
    hold: Hold


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be sent before this time; None where only an event (a write, an answer, a new call) can change that."""

    until: float | None


@dataclass(frozen=True, slots=True)
class Reject:
    """The call isn't taken in, for this reason."""

    error: QueueFull | WaitTooLong


@dataclass(frozen=True, slots=True)
class LaneState:
    """The lane's quota as of now: `limit` sends a second; `remaining` could go at once; in `reset` seconds it is whole again."""

    limit: int
    remaining: int
    reset: float


@dataclass(slots=True)
class Lane:
    """One token's turn: a bounded queue, first in first out, in front of the slots.

    Args:
        policy: the bounds.
        open_from: nothing is sent before this time. A lane whose past isn't known begins with `per + guard` from now.
    """

    policy: LanePolicy
    open_from: float
    _queue: OrderedDict[str, Waiting] = field(default_factory=OrderedDict)
    _by_caller: Counter[str] = field(default_factory=Counter)
    _holds: list[Hold] = field(default_factory=list)
    _in_flight: int = 0
    _round_trips: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=ROUND_TRIPS_KEPT))

    @classmethod
    def cold(cls, policy: LanePolicy, known_since: float) -> Lane:
        """A lane that knows nothing of what was sent before `known_since`."""
        lane = cls(policy, known_since)
        lane.forget(known_since)
        return lane

    def check(self, caller_id: str, deadline: float, now: float) -> Reject | None:
        """Whether a call of this caller, arriving now, would be taken in."""
        wait = self.predicted_wait(len(self._queue), now)
        if len(self._queue) >= self.policy.depth or self._by_caller[caller_id] >= self.policy.caller_depth:
            return Reject(QueueFull("too many calls wait for this token", retry_after=wait))
        if now + wait > deadline:
            detail = f"the wait would be {wait:.1f} s, longer than the {max(0.0, deadline - now):.1f} s that the call has left"
            return Reject(WaitTooLong(detail, retry_after=wait - (deadline - now), predicted_wait=math.ceil(wait)))
        return None

    def enter(self, waiting: Waiting, now: float) -> Reject | None:
        """Take a call into the queue, or say why not."""
        rejected = self.check(waiting.caller_id, waiting.deadline, now)
        if rejected is None:
            self.admit(waiting)
        return rejected

    def admit(self, waiting: Waiting) -> None:
        """Take a call into the queue that was taken in before, by another lane."""
        self._queue[waiting.call_id] = waiting
        self._by_caller[waiting.caller_id] += 1

    def withdraw(self, call_id: str) -> bool:
        """Take a waiting call out of the queue; False where it no longer waits."""
        waiting = self._queue.pop(call_id, None)
        if waiting is None:
            return False
        self._by_caller[waiting.caller_id] -= 1
        if not self._by_caller[waiting.caller_id]:
            del self._by_caller[waiting.caller_id]
        return True

    def next(self, now: float) -> Release | Wait:
        """What to do now: release the call whose turn it is, or wait."""
        self._holds = [hold for hold in self._holds if hold.until > now]
        self._drop_expired(now)
        if not self._queue or self._in_flight >= self.policy.in_flight:
            return Wait(None)
        opens = max(self.open_from, self._slot_frees())
        if opens > now:
            return Wait(None if opens == NEVER else opens)
        waiting = next(iter(self._queue.values()))
        self.withdraw(waiting.call_id)
        hold = Hold(now)
        self._holds.append(hold)
        self._in_flight += 1
        return Release(waiting, hold)

    def written(self, hold: Hold, at: float) -> None:
        """The send's request has left for the socket."""
        hold.written = at
        hold.until = at + self.policy.per + self.policy.guard

    def answered(self, hold: Hold, at: float) -> None:
        """The send's status line was read; it had arrived before."""
        hold.until = min(hold.until, at + self.policy.per)
        self._round_trips.append((at, at - (hold.released if hold.written is None else hold.written)))

    def ended(self, hold: Hold, at: float, *, answered: bool) -> None:
        """The send is over. One that was never written frees its slot at once; one without an answer was aborted now."""
        self._in_flight -= 1
        if hold.written is None:
            hold.until = at
        elif not answered:
            hold.until = at + self.policy.per + self.policy.guard
            if hold not in self._holds:
                self._holds.append(hold)

    def pause(self, until: float) -> None:
        """Send nothing before this time."""
        self.open_from = max(self.open_from, until)

    def predicted_wait(self, ahead: int, now: float) -> float:
        """How long, in seconds from now, until a call with `ahead` sends before it would have its answer."""
        slots, round_trip = self._slot_times(now), self._median_round_trip(now)
        turn = slots[ahead % len(slots)] + (ahead // len(slots)) * (self.policy.per + min(round_trip, self.policy.guard))
        return turn + round_trip - now

    def state(self, now: float) -> LaneState:
        """The quota as of now."""
        times = self._slot_times(now)
        free = sum(time <= now for time in times)
        return LaneState(round(self.policy.slots / self.policy.per), max(0, free - len(self._queue)), max(times) - now)

    def forget(self, now: float) -> None:
        """Whatever was sent before now isn't known: wait until none of it can count."""
        self.pause(now + self.policy.per + self.policy.guard)

    def idle(self, now: float) -> bool:
        """Whether nothing waits, is under way, or counts against a window any more."""
        return not self._queue and not self._in_flight and all(hold.until <= now for hold in self._holds)

    @property
    def waiting(self) -> list[Waiting]:
        """The calls that wait, the next one first."""
        return list(self._queue.values())

    @property
    def in_flight(self) -> int:
        """The sends under way."""
        return self._in_flight

    def _drop_expired(self, now: float) -> None:
        """A call whose time ran out (while the process stalled, say) takes no turn; whoever waits for it finds out by itself."""
        while self._queue and (first := next(iter(self._queue.values()))).deadline <= now:
            self.withdraw(first.call_id)

    def _median_round_trip(self, now: float) -> float:
        """Of the last minute only: an upstream that was slow once must not keep short waits out for ever."""
        recent = [length for at, length in self._round_trips if now - at <= ROUND_TRIP_AGE]
        return median(recent) if recent else 0.0

    def _slot_frees(self) -> float:
        """When enough holds will have ended for one slot to be free."""
        excess = len(self._holds) - self.policy.slots
        return -NEVER if excess < 0 else sorted(hold.until for hold in self._holds)[excess]

    def _slot_times(self, now: float) -> list[float]:
        """For each slot the time at which it can next be taken, soonest first; a send not yet written counts as written now."""
        expected = sorted(now + self.policy.per if hold.until == NEVER else hold.until for hold in self._holds)
        latest = expected[-self.policy.slots :]
        free = [now] * (self.policy.slots - len(latest))
        return [max(time, now, self.open_from) for time in free + latest]
