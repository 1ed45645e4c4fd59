"""The breaker: stops calls of an operation that the upstream refuses for the token's sake. Pure; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Breaker"]

REFUSALS_TO_OPEN = 3
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3_600.0


@dataclass(slots=True)
class Breaker:
    """One operation's breaker in one lane. Three refusals (401, 403) in a row open it; then one real call probes after 1 min, 2, 4 … 60."""

    refusals: int = 0
    probes_from: float | None = None
    probe: str | None = None
    _pause: float = FIRST_PAUSE

    @property
    def open(self) -> bool:
        """Whether calls are held back."""
        return self.probes_from is not None

    def holds_back(self, now: float) -> bool:
        """Whether a call that comes now can't go: it is open, and either not yet time to probe, or another call probes."""
        return self.probes_from is not None and (self.probe is not None or now < self.probes_from)

    def admit(self, call_id: str) -> None:
        """Let a call that isn't held back go; while the breaker is open it is the probe."""
        if self.open:
            self.probe = call_id

    def retry_after(self, now: float) -> float | None:
        """Seconds until a call may probe; None while one does."""
        return None if self.probes_from is None or self.probe else max(0.0, self.probes_from - now)

    def refused(self, now: float) -> bool:
        """The upstream refused the token; whether that opened the breaker, or kept it open."""
        self.refusals += 1
        if self.probe is not None:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        elif self.open or self.refusals < REFUSALS_TO_OPEN:
            return False
        self.probe = None
        self.probes_from = now + self._pause
        return True

    def accepted(self) -> None:
        """The upstream took the token: what it answered concerned the call."""
        self.refusals = 0
        self.probes_from = self.probe = None
        self._pause = FIRST_PAUSE

    def gone(self, call_id: str) -> None:
        """A call left, or ended without an answer: if it was the probe, the next call is."""
        if self.probe == call_id:
            self.probe = None
