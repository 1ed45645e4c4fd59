"""The upstream's rate rule for one token: no clock, no I/O."""

from collections import deque
from typing import Final

WINDOW: Final = 1.0
"""Seconds over which Flxpoint counts a token's requests."""
HISTORY: Final = 100_000
"""Arrival times kept per token; older ones are dropped."""


class Meter:
    """Counts a token's arrivals and says which to refuse: at most `rate` in any `[t, t + 1 s)`, with no tolerance.

    Flxpoint doesn't publish how it measures, so this is the strictest reading, a sliding window. An arrival exactly 1 s
    after the one that filled the window is accepted.

    Refused arrivals don't prolong the refusing: only accepted ones fill the window. The statistics count every arrival,
    refused or not, since each is one the caller shouldn't have sent.
    """

    def __init__(self, rate: int = 2, *, history: int = HISTORY) -> None:
        """Allow `rate` arrivals a second and remember the times of the last `history`.

        Raises:
            ValueError: the rate is below 1.

        """
        if rate < 1:
            msg = "a rate is at least 1 arrival a second"
            raise ValueError(msg)
        self.arrivals = 0
        self.rejected = 0
        self.most_in_any_second = 0
        self.times: deque[float] = deque(maxlen=history)
        self._last_second: deque[float] = deque(maxlen=history)
        self._accepted: deque[float] = deque(maxlen=rate)

    def arrive(self, at: float) -> bool:
        """Count an arrival at `at` (monotonic seconds) and tell whether it is accepted.

        A time before the latest one seen counts as the latest: arrivals are stamped before they are counted, and two
        connections may swap places in between.
        """
        at = max(at, self.times[-1]) if self.times else at
        self._count(at)
        if self._is_full(at):
            self.rejected += 1
            return False
        self._accepted.append(at)
        return True

    def _count(self, at: float) -> None:
        self.arrivals += 1
        self.times.append(at)
        self._last_second.append(at)
        while self._last_second[0] + WINDOW <= at:
            self._last_second.popleft()
        self.most_in_any_second = max(self.most_in_any_second, len(self._last_second))

    def _is_full(self, at: float) -> bool:
        return len(self._accepted) == self._accepted.maxlen and at < self._accepted[0] + WINDOW
