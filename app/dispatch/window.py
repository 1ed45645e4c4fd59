"""The window: a lane's slots, each held by a send until its arrival can no longer share a window with the next. Pure; times in seconds.

A send takes a slot at its release and holds it until `min(answered + per - φ·m, written + per + G)`. One that failed before it was written
frees it at once; one whose answer is lost had its connection aborted, and frees it at `abort + per + G`. Under `proven` pacing an answer
alone frees a slot, at `answered + per`: whatever the network does, a request has arrived before its answer left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from app.dispatch.guard import Guard
from app.domain import Pacing

__all__ = ["NEVER", "Hold", "Window"]

NEVER = math.inf


@dataclass(slots=True, eq=False)
class Hold:
    """A send's hold on its slot. Until it is written it holds without end."""

    released: float
    until: float = NEVER
    written: float | None = None
    answered: float | None = None


@dataclass(slots=True)
class Window:
    """The slots of a lane: `slots` sends in any `per` seconds."""

    slots: int
    per: float
    guard: Guard
    _holds: list[Hold] = field(default_factory=list)

    def take(self, now: float) -> Hold:
        """Take a slot. Whether one is free is `opens`'s to say."""
        hold = Hold(now)
        self._holds.append(hold)
        return hold

    def written(self, hold: Hold, at: float, peer: str | None) -> None:
        """The send's request has left for the socket."""
        hold.written = at
        self.guard.connected(peer)
        if self.guard.pacing is Pacing.LEARNED:
            hold.until = at + self.per + self.guard.margin

    def answered(self, hold: Hold, at: float) -> None:
        """The send's status line was read; it had arrived before."""
        hold.answered = at
        self.guard.answered(at - (hold.released if hold.written is None else hold.written), at)
        hold.until = min(hold.until, at + self.per - self.guard.advance(at))

    def ended(self, hold: Hold, at: float) -> None:
        """The send is over: never written, answered, or aborted now."""
        if hold.answered is not None:
            return
        if hold.written is None:
            hold.until = at
        else:
            hold.until = at + self.per + self.guard.margin
            if hold not in self._holds:
                # Before all others: whoever prepares to write must reckon with it.
                self._holds.insert(0, hold)

    def expire(self, now: float) -> None:
        """Forget holds that have ended."""
        for hold in self._holds:
            if hold.until <= now:
                self._holds = [hold for hold in self._holds if hold.until > now]
                return

    def opens(self) -> float:
        """When a slot is free: in the past where one is, `NEVER` where only an event can free one."""
        return self._all_but(self._holds)

    def opens_for(self, hold: Hold) -> float:
        """When a send that has taken its slot ahead of time may be written: once, of those before it, all but `slots - 1` have ended."""
        return self._all_but(self._holds[: self._holds.index(hold)])

    def _all_but(self, holds: list[Hold]) -> float:
        """When all of these but `slots - 1` have ended."""
        excess = len(holds) - self.slots
        if excess < 0:
            return -NEVER
        ends = [hold.until for hold in holds]
        return sorted(ends)[excess] if excess else min(ends)

    def slot_times(self, now: float) -> list[float]:
        """For each slot the time at which it can next be taken, soonest first; a send not yet written counts as written now."""
        expected = sorted(now + self.per if hold.until == NEVER else hold.until for hold in self._holds)
        latest = expected[-self.slots :]
        return [now] * (self.slots - len(latest)) + [max(time, now) for time in latest]

    def period(self, now: float) -> float:
        """How long a slot is held by a send whose answer comes in the median time."""
        round_trip = self.guard.median_round_trip(now)
        if self.guard.pacing is Pacing.PROVEN:
            return self.per + round_trip
        return self.per + min(round_trip - self.guard.advance(now), self.guard.margin)

    def idle(self, now: float) -> bool:
        """Whether no send counts any more."""
        return all(hold.until <= now for hold in self._holds)
