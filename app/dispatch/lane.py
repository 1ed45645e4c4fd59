"""The lane: all that concerns one token's turn. Pure: no I/O, no clock; time goes in as an argument, decisions come out as values.

All times are in seconds on one monotonic clock of the caller's choosing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.dispatch.breaker import Breaker
from app.dispatch.fairness import FairQueue, FlowKey, Turn, Waiting
from app.dispatch.forecast import Forecast
from app.dispatch.guard import Guard
from app.dispatch.retry import unconnected_pause
from app.dispatch.window import NEVER, Hold, Window
from app.domain import Burst, Pacing
from app.errors import QueueFull, TokenSuspended, WaitTooLong

__all__ = ["Hold", "Lane", "LanePolicy", "LaneState", "Reject", "Release", "Wait", "Waiting"]

TALLY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """The bounds that a lane keeps: `slots` sends in any `per` seconds, the rest in numbers of calls or sends.

    `revision` numbers the state of the tokens in the database that they were read from.
    """

    slots: int = 2
    per: float = 1.0
    pacing: Pacing = Pacing.LEARNED
    depth: int = 1_000
    caller_depth: int = 200
    in_flight: int = 8
    revision: int = 0

    @property
    def depth_for_jobs(self) -> int:
        """How many jobs' calls may wait: the other half is for those who wait themselves."""
        return max(1, self.depth // 2)

    @classmethod
    def of(cls, rate: int, burst: Burst, pacing: Pacing = Pacing.LEARNED, *, depth: int, caller_depth: int) -> LanePolicy:
        """The policy of a token: `rate` sends at once in each second, or, spaced, one in each `1/rate` seconds."""
        slots, per = (1, 1 / rate) if burst is Burst.SPACED else (rate, 1.0)
        return cls(slots, per, pacing, depth, caller_depth)


@dataclass(frozen=True, slots=True)
class Release:
    """Send these calls now, together; the hold is to be told how the send goes. `places` are what they get back if the turn is lost."""

    calls: tuple[Waiting, ...]
    hold: Hold
    places: Mapping[FlowKey, Turn] = field(default_factory=dict)

    @property
    def waiting(self) -> Waiting:
        """The call whose turn it is; the others share its send."""
        return self.calls[0]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be sent before this time; None where only an event (a write, an answer, a new call) can change that."""

    until: float | None


NOTHING_TO_WAIT_FOR = Wait(None)


@dataclass(frozen=True, slots=True)
class Reject:
    """The call isn't taken in, for this reason."""

    error: QueueFull | WaitTooLong | TokenSuspended


@dataclass(frozen=True, slots=True)
class LaneState:
    """The lane's quota as of now: `limit` sends a second; `remaining` could go at once; in `reset` seconds it is whole again."""

    limit: int
    remaining: int
    reset: float


@dataclass(slots=True)
class Lane:
    """One token's turn: a bounded fair queue in front of the slots.

    Args:
        policy: the bounds.
        open_from: nothing is sent before this time. A lane whose past isn't known begins with `per + G` from now.
        queue: the calls that wait.
        merging: whether calls of different requests may share a send, where their `cap` allows it.

    `waiting_elsewhere` is how many calls wait for the token in other processes, as far as is known.
    """

    policy: LanePolicy
    open_from: float
    queue: FairQueue = field(default_factory=FairQueue)
    merging: bool = True
    guard: Guard = field(init=False)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    in_flight: int = 0
    alerts: set[str] = field(default_factory=set)
    waiting_elsewhere: int = 0
    window: Window = field(init=False)
    _unconnected: int = 0
    _unconnected_at: float = -NEVER
    _unknown: bool = False
    _limited_at: float = -NEVER
    _tally: deque[float] = field(default_factory=deque)
    _forecast: tuple[tuple[int, bool], Forecast] | None = None

    def __post_init__(self) -> None:
        self.guard = Guard(self.policy.pacing)
        self.window = Window(self.policy.slots, self.policy.per, self.guard)

    @classmethod
    def cold(cls, policy: LanePolicy, known_since: float) -> Lane:
        """A lane that knows nothing of what was sent before `known_since`."""
        lane = cls(policy, known_since)
        lane.forget(known_since)
        return lane

    def adopt(self, policy: LanePolicy) -> None:
        """Keep other bounds from now on. Slots that are held stay held; what a shorter window has forgotten a longer one can't know."""
        self._unknown = self._unknown or policy.per > self.policy.per
        self.policy = policy
        self.guard.pacing = policy.pacing
        self.window.slots, self.window.per = policy.slots, policy.per

    def hand_over(self) -> FairQueue:
        """Give the queue away, with every place in it: the token has another value now, and this one's breakers are closed."""
        queue, self.queue, self._forecast = self.queue, FairQueue(), None
        self.resume()
        return queue

    def take_over(self, queue: FairQueue) -> None:
        """Go on with another lane's queue, and with closed breakers: this value is new to its token."""
        self.queue, self._forecast = queue, None
        self.resume()

    def put_back(self, waiting: Waiting, now: float) -> bool:
        """Take a call in again that had its turn in vain, before its caller's others; False where its operation is held back."""
        if breaker := self.breakers.get(waiting.operation):
            if breaker.holds_back(now):
                return False
            breaker.admit(waiting.call_id)
        self.queue.put_back([waiting])
        return True

    def check(self, waiting: Waiting, now: float) -> Reject | None:
        """Whether a call that arrives now would be taken in."""
        breaker = self.breakers.get(waiting.operation)
        if breaker and breaker.holds_back(now):
            detail = "Flxpoint refused this token for this operation several times in a row; nothing was sent"
            return Reject(TokenSuspended(detail, retry_after=breaker.retry_after(now)))
        if waiting.of_job and self.queue.of_jobs >= self.policy.depth_for_jobs:
            return Reject(QueueFull("too many calls of jobs wait for this token", retry_after=self.wait_after(0, now)))
        if len(self.queue) >= self.policy.depth or self.queue.of_caller(waiting.caller_id) >= self.policy.caller_depth:
            return Reject(QueueFull("too many calls wait for this token", retry_after=self.wait_after(0, now)))
        if now + self.wait_after(self.queue.most_sends(merging=self.merging), now) <= waiting.deadline:
            return None
        wait = self.predicted_wait(waiting, now)
        if now + wait > waiting.deadline:
            left = max(0.0, waiting.deadline - now)
            detail = f"the wait would be {wait:.1f} s, longer than the {left:.1f} s that the call has left"
            return Reject(WaitTooLong(detail, retry_after=wait - left, predicted_wait=math.ceil(wait)))
        return None

    def enter(self, waiting: Waiting, now: float) -> Reject | None:
        """Take a call into the queue, or say why not."""
        rejected = self.check(waiting, now)
        if rejected is None:
            if breaker := self.breakers.get(waiting.operation):
                breaker.admit(waiting.call_id)
            self.queue.add(waiting)
        return rejected

    def withdraw(self, call_id: str) -> bool:
        """Take a waiting call out of the queue; False where it doesn't wait."""
        waiting = self.queue.remove(call_id)
        if waiting and (breaker := self.breakers.get(waiting.operation)):
            breaker.gone(call_id)
        return waiting is not None

    def next(self, now: float, ahead: float = 0.0) -> Release | Wait:
        """What to do now: release the call whose turn it is with those that share its send, or wait.

        Args:
            now: the time.
            ahead: how long before a slot opens a send may be released, to be put on record and connected; `opens_for` says when it is
            written.
        """
        if self._unknown:
            self._unknown = False
            self.forget(now)
        self.expire(now)
        if not len(self.queue) or self.in_flight >= self.policy.in_flight:
            return NOTHING_TO_WAIT_FOR
        self.window.expire(now)
        opens = max(self.open_from, self.window.opens())
        if opens > now + ahead:
            return Wait(None if opens == NEVER else opens - ahead)
        calls = tuple(self.queue.take(merging=self.merging))
        self.in_flight += 1
        return Release(calls, self.window.take(now), self.queue.places)

    def expire(self, now: float) -> None:
        """Take out whatever has no time left.

        Who waits for it finds out by itself; so it is even if the process stalled past the deadline.
        """
        for waiting in self.queue.expire(now):
            if breaker := self.breakers.get(waiting.operation):
                breaker.gone(waiting.call_id)

    def opens_for(self, hold: Hold) -> float:
        """When a released send may be written."""
        return max(self.open_from, self.window.opens_for(hold))

    def written(self, hold: Hold, at: float, peer: str | None = None) -> None:
        """The send's request has left for the socket, to this address."""
        self.window.written(hold, at, peer)
        self._unconnected = 0
        self._tally.append(at)
        self._trim(at)

    def answered(self, hold: Hold, at: float) -> None:
        """The send's status line was read; it had arrived before."""
        self.window.answered(hold, at)

    def ended(self, hold: Hold, at: float) -> None:
        """The send is over. One that was never written frees its slot at once; one without an answer was aborted now."""
        self.in_flight -= 1
        self.window.ended(hold, at)

    def unconnected(self, released: float, now: float) -> None:
        """A send that was released then never left: pause, the longer the more of them in a row. Those that failed together are one."""
        if released <= self._unconnected_at:
            return
        self._unconnected_at = now
        self._unconnected += 1
        self.pause(now + unconnected_pause(self._unconnected))

    def pause(self, until: float) -> None:
        """Send nothing before this time."""
        self.open_from = max(self.open_from, until)

    def limited(self, released: float, now: float) -> bool:
        """A send that was released then was answered 429.

        Returns:
            Whether that makes it plain that somebody else uses the token. What was under way already when another 429 came proves nothing
            new.
        """
        if released <= self._limited_at:
            return False
        self._limited_at = now
        return self.guard.limited()

    def resume(self) -> None:
        """Close the breakers."""
        self.breakers.clear()

    def refused(self, operation: str, now: float) -> bool:
        """The upstream refused the token; whether that stops the operation's calls."""
        return self.breakers.setdefault(operation, Breaker()).refused(now)

    def accepted(self, operation: str) -> None:
        """The upstream took the token."""
        self.breakers.pop(operation, None)

    def undecided(self, operation: str, call_id: str) -> None:
        """A send of this call ended without telling whether the token is good."""
        if breaker := self.breakers.get(operation):
            breaker.gone(call_id)

    def predicted_wait(self, waiting: Waiting, now: float) -> float:
        """How long, in seconds from now, until a call that arrives now would have its answer."""
        before = self.forecast().sends_before(waiting, self.queue.turn_of(waiting), merging=self.merging)
        return self.wait_after(before, now)

    def newcomers_wait(self, now: float) -> float:
        """How long, in seconds from now, until an interactive call of a caller that has none waiting would have its answer."""
        return self.predicted_wait(Waiting("", "", now), now)

    def forecast(self) -> Forecast:
        """The sends that what waits will take; worked out anew only when the queue, or merging, has changed."""
        state = self.queue.changes, self.merging
        if self._forecast is None or self._forecast[0] != state:
            self._forecast = state, Forecast.of(self.queue, merging=self.merging)
        return self._forecast[1]

    def wait_after(self, sends: int, now: float) -> float:
        """How long, in seconds from now, until a call with so many sends before it would have its answer."""
        times = self.window.slot_times(now)
        rounds, place = divmod(sends, len(times))
        round_trip = self.guard.median_round_trip(now)
        begins = max(times[place], self.open_from)
        if rounds:
            begins += rounds * max(self.window.period(now), round_trip * len(times) / self.policy.in_flight)
        return begins + round_trip - now

    def state(self, now: float) -> LaneState:
        """The quota as of now."""
        times = [max(time, self.open_from) for time in self.window.slot_times(now)]
        free = sum(time <= now for time in times)
        return LaneState(round(self.policy.slots / self.policy.per), max(0, free - len(self.queue)), max(times) - now)

    def sent_within(self, seconds: float, now: float) -> int:
        """How many sends were written in the last `seconds`, 60 at most."""
        self._trim(now)
        return sum(at > now - seconds for at in self._tally)

    def forget(self, now: float) -> None:
        """Whatever was sent before now isn't known: wait until none of it can count."""
        self.pause(now + self.policy.per + self.guard.margin)

    def idle(self, now: float) -> bool:
        """Whether nothing waits, is under way, or counts against a window any more, and no pause goes on."""
        return not len(self.queue) and not self.in_flight and self.open_from <= now and self.window.idle(now)

    def _trim(self, now: float) -> None:
        while self._tally and self._tally[0] <= now - TALLY_SECONDS:
            self._tally.popleft()
