"""A lane on the event loop: its timer, how long its sends take to get ready, and what tells it of a send's moments."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from app.dispatch.lane import Hold, Lane
from app.dispatch.shared.slots import Claim
from app.dispatch.shared.turns import LaneTurns
from app.dispatch.ticket import Flight
from app.domain import TokenRef, TurnLost

__all__ = ["FlightStamps", "Track", "timer_delay"]

FIRST_AHEAD = 0.005
LEAST_AHEAD = 0.002
MOST_AHEAD = 0.25
PREPARATIONS_KEPT = 9
TOKEN_ECHOED = "token-echoed"  # noqa: S105 - an alert's name


@dataclass(slots=True, eq=False)
class Track:
    """One lane with what the driver needs to run it."""

    key: str
    lane: Lane
    token: TokenRef
    turns: LaneTurns | None = None
    ahead: float = FIRST_AHEAD
    _alarm: asyncio.TimerHandle | None = None
    _alarm_at: float | None = None
    _preparing: deque[float] = field(default_factory=lambda: deque(maxlen=PREPARATIONS_KEPT))

    def wake(self, at: float | None, now: float, pacer: Pacer) -> None:
        """Have the lane looked at again at this time, and not sooner; None: at none. An alarm that is set for that time stays."""
        if at == self._alarm_at:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm_at, self._alarm = at, None
        if at is not None:
            self._alarm = asyncio.get_running_loop().call_later(timer_delay(at - now), self._ring, pacer)

    async def may_still_write(self, hold: Hold) -> bool:
        """Whether a send whose slot is open may be written right now: a claim on a shared slot grows old."""
        return not (self.turns and isinstance(hold, Claim)) or await self.turns.keep(hold)

    def _ring(self, pacer: Pacer) -> None:
        self._alarm_at = self._alarm = None
        pacer.pump(self)

    def prepared(self, took: float) -> None:
        """Release the next sends so long ahead that most are ready when their slot opens: as it took of late, and a bit.

        The median: one that took long, in a crowd, must not have the next ones decided so early that who comes meanwhile is passed over.
        """
        self._preparing.append(took)
        self.ahead = min(max(1.25 * median(self._preparing), LEAST_AHEAD), MOST_AHEAD)


class Pacer(Protocol):
    """Who runs the lanes."""

    @property
    def now(self) -> float: ...

    def is_lane_of(self, track: Track, token_id: str) -> bool: ...

    def pump(self, track: Track) -> None: ...


@dataclass(slots=True)
class FlightStamps:
    """Carries the moments of one send from `upstream` to its lane."""

    dispatcher: Pacer
    track: Track
    flight: Flight
    hold: Hold
    echoes: int = 0

    async def turn(self) -> None:
        """Wait for the slot that was taken ahead of time, and see whether the turn still stands.

        Raises:
            TurnLost
        """
        self.track.prepared(self.dispatcher.now - self.hold.released)
        while (left := self.track.lane.opens_for(self.hold) - self.dispatcher.now) > 0 and not self.flight.deserted:
            if left > MOST_AHEAD:
                raise TurnLost
            await self.flight.wait_to_be_deserted(timer_delay(left))
        # What was asked before the connection was made may be long ago.
        if not self.flight.wanted or not self.dispatcher.is_lane_of(self.track, self.flight.tickets[0].call.token.id):
            raise TurnLost
        if not await self.track.may_still_write(self.hold) or self.flight.deserted:
            raise TurnLost
        self.flight.depart()

    @property
    def was_written(self) -> bool:
        """Whether the request has left."""
        return self.hold.written is not None

    def written(self, at: float, peer: str | None = None) -> None:
        """Tell the lane, and go on."""
        self.track.lane.written(self.hold, at, peer)
        self.dispatcher.pump(self.track)

    def answered(self, at: float) -> None:
        """Tell the lane, and go on."""
        self.track.lane.answered(self.hold, at)
        self.dispatcher.pump(self.track)

    def echoed(self, finds: int) -> None:
        """Count, and have the lane's operators know."""
        self.echoes += finds
        self.track.lane.alerts.add(TOKEN_ECHOED)


def timer_delay(seconds: float) -> float:
    """Whole milliseconds, rounded up: uvloop's timers have no finer ones, and one that fires early would spin."""
    return max(0, math.ceil(seconds * 1_000)) / 1_000
