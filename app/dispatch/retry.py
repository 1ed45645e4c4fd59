"""Retries: what is sent again, and when. Pure; times in seconds."""

from __future__ import annotations

import random
from dataclasses import dataclass

from app.domain import Outcome, RateLimited, Refused, TimedOut, Unreachable

__all__ = ["Again", "decide", "pause_after", "unconnected_pause"]

MOST_ATTEMPTS = 3
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 8.0
FIRST_UNCONNECTED_PAUSE = 0.1
LONGEST_UNCONNECTED_PAUSE = 2.0
ASSUMED_RETRY_AFTER = 1.0
LONGEST_RETRY_AFTER = 60.0
PASSING_STATUSES = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Again:
    """Send it again, with a new turn, no sooner than after so many seconds."""

    after: float = 0.0


def decide(outcome: Outcome, *, idempotent: bool, attempts: int, jitter: random.Random) -> Again | None:
    """Whether a call is sent again after this end of a send.

    What never left, and a 429, always are; the lane's pause makes them wait. Of idempotent operations also what was lost on the way or met
    a passing fault, at most 3 times in all, with exponential back-off and full jitter.

    Args:
        outcome: how the send ended.
        idempotent: whether the operation may be repeated though its effect isn't known.
        attempts: how often the call's request has left.
        jitter: draws the back-off.
    """
    if isinstance(outcome, RateLimited) or (isinstance(outcome, Unreachable) and not outcome.uncertain):
        return Again()
    if not idempotent or attempts >= MOST_ATTEMPTS:
        return None
    if isinstance(outcome, Unreachable | TimedOut) or (isinstance(outcome, Refused) and outcome.status in PASSING_STATUSES):
        return Again(jitter.uniform(0, min(FIRST_BACKOFF * 2 ** (attempts - 1), LONGEST_BACKOFF)))
    return None


def pause_after(limited: RateLimited) -> float:
    """How long a 429 pauses its lane: as it asks, 1 s where it doesn't, 60 s at most."""
    wait = ASSUMED_RETRY_AFTER if limited.retry_after is None else limited.retry_after
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def unconnected_pause(failures: int) -> float:
    """How long a lane pauses after so many sends in a row that never left: 100 ms, doubling to 2 s."""
    return float(min(FIRST_UNCONNECTED_PAUSE * 2 ** min(failures - 1, 10), LONGEST_UNCONNECTED_PAUSE))
