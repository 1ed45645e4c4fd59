"""Arrivals at the upstream, judged by its rule: at most two in any `[t, t + 1 s)`. Pure; times in seconds, ascending."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["RATE", "WINDOW", "breaches", "most_in_any_window", "utilisation"]

RATE = 2
WINDOW = 1.0


def most_in_any_window(times: Sequence[float]) -> int:
    """The most arrivals in any window of a second; one exactly a second after the first is outside."""
    return max((bisect_left(times, begin + WINDOW) - place for place, begin in enumerate(times)), default=0)


def breaches(times: Sequence[float], tolerance: float = 0.0) -> int:
    """How many arrivals came while the second before them, the arrival's own moment included, held two others already.

    Args:
        times: the arrivals.
        tolerance: by how much shorter than a second the window is taken, in seconds.
    """
    return sum(later < earlier + WINDOW - tolerance for earlier, later in zip(times, times[RATE:], strict=False))


def utilisation(times: Sequence[float]) -> float:
    """What share of the budget was used: (N - 2)/2 over the seconds between the first and the last arrival.

    Raises:
        ValueError: it is told by three arrivals or more.
    """
    if len(times) <= RATE:
        message = f"{len(times)} arrivals don't tell a utilisation"
        raise ValueError(message)
    return (len(times) - RATE) / RATE / (times[-1] - times[0])
