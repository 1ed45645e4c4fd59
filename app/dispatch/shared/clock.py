"""Whether the server's clock goes as this process's monotonic one does. Pure; times in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["ServerClock"]

STEP_SECONDS = 0.1
ANCHOR_SECONDS, BETWEEN_ANCHORS = 2.0, 0.25
"""How old the readings are that a new one is compared with beside the last, so that many small steps are seen as one; how many are kept."""
DRIFT = 0.001
"""How much faster or slower than ours the server's clock may go while it is set right bit by bit (adjtime(3) goes at 0.0005)."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """How far the server's clock was ahead of ours: between `earliest` and `latest`, as of `at`, on our clock."""

    earliest: float
    latest: float
    at: float

    def later(self, at: float) -> _Reading:
        """What it says of a later moment: clocks may have drifted apart since."""
        drifted = DRIFT * (at - self.at)
        return _Reading(self.earliest - drifted, self.latest + drifted, at)

    def gap(self, newer: _Reading) -> float:
        """By how much at least the clock was set forward (or back, below 0) between the two; 0 where it need not have been."""
        return max(newer.earliest - self.latest, 0.0) + min(newer.latest - self.earliest, 0.0)

    def narrowed(self, newer: _Reading) -> _Reading:
        """What both allow, or what the newer one says where they exclude each other."""
        both = _Reading(max(self.earliest, newer.earliest), min(self.latest, newer.latest), newer.at)
        return both if both.earliest <= both.latest else newer


@dataclass(slots=True)
class ServerClock:
    """What is known of how far the server's clock is ahead of ours, and was within the last 2 s."""

    _last: _Reading | None = None
    _anchors: deque[_Reading] = field(default_factory=deque)

    def forget(self) -> None:
        """Another server's clock is read from now on."""
        self._last = None
        self._anchors.clear()

    def jumped(self, server: float, sent: float, received: float) -> float | None:
        """Take note of what the server's clock showed between two moments of ours; by how much it jumped since, None where it didn't.

        An answer that took long says little, so what quicker ones said before is kept, for as much as clocks may have drifted apart since.
        It is compared with what was 2 s ago too: a clock that is set right fast, bit by bit, jumps as well.
        """
        reading = _Reading(server - received, server - sent, received)
        self._drop_old_anchors(received)
        known = [one.later(received) for one in (self._last, *list(self._anchors)[:1]) if one]
        jump = max((one.gap(reading) for one in known), key=abs, default=0.0)
        if abs(jump) > STEP_SECONDS:
            self.forget()
            self._keep(reading)
            return jump
        self._keep(known[0].narrowed(reading) if known else reading)
        return None

    def _drop_old_anchors(self, now: float) -> None:
        while len(self._anchors) > 1 and now - self._anchors[1].at >= ANCHOR_SECONDS:
            self._anchors.popleft()

    def _keep(self, reading: _Reading) -> None:
        self._last = reading
        if not self._anchors or reading.at - self._anchors[-1].at >= BETWEEN_ANCHORS:
            self._anchors.append(reading)
