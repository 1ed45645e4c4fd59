"""What an operator sees of a lane. Pure; times in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from app.dispatch.lane import TALLY_SECONDS, Lane
from app.domain import TokenRef

__all__ = ["BreakerReport", "LaneReport", "report_of"]


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """An open breaker: the operation it holds back, and in how many seconds a call may probe (None: one does)."""

    operation: str
    probes_in: float | None


@dataclass(frozen=True, slots=True)
class LaneReport:
    """A lane as of now.

    `waiting` counts this process's calls by the callers' names, `waiting_elsewhere` those of others; `predicted_wait` is what an
    interactive call of a caller that has none waiting would take, with what waits elsewhere, in seconds; `utilisation` the share of the
    last minute's budget that was sent here; `guard` is `G` and `learned` `φ`; `pause` how long nothing will be sent, in seconds; round
    trips in seconds, None where none is known.
    """

    token: str
    rate: int
    burst: str
    pacing: str
    waiting: Mapping[str, int]
    waiting_elsewhere: int
    predicted_wait: float
    sent_last_second: int
    sent_last_minute: int
    utilisation: float
    guard: float
    learned: float
    pause: float
    breakers: tuple[BreakerReport, ...]
    in_flight: int
    smallest_round_trip: float | None
    median_round_trip: float | None
    merging: bool
    alerts: tuple[str, ...]


def report_of(token: TokenRef, lane: Lane, names: Mapping[str, str], now: float, *, merging: bool) -> LaneReport:
    """The report of a token's lane.

    Args:
        token: the token.
        lane: its lane.
        names: the waiting callers' names by their IDs.
        now: the time.
        merging: whether merging is turned on at all.
    """
    minute = lane.sent_within(TALLY_SECONDS, now)
    return LaneReport(
        token=token.name,
        rate=token.rate,
        burst=token.burst.value,
        pacing=token.pacing.value,
        waiting=_by_name(lane.queue.callers, names),
        waiting_elsewhere=lane.waiting_elsewhere,
        predicted_wait=round(lane.newcomers_wait(now), 3),
        sent_last_second=lane.sent_within(1.0, now),
        sent_last_minute=minute,
        utilisation=round(minute / (token.rate * TALLY_SECONDS), 4),
        guard=lane.guard.margin,
        learned=round(lane.guard.share, 4),
        pause=round(max(0.0, lane.open_from - now), 3),
        breakers=tuple(BreakerReport(name, breaker.retry_after(now)) for name, breaker in lane.breakers.items() if breaker.open),
        in_flight=lane.in_flight,
        smallest_round_trip=_rounded(lane.guard.smallest_round_trip(now)),
        median_round_trip=_rounded(lane.guard.median_round_trip(now) or None),
        merging=merging and lane.merging,
        alerts=tuple(sorted(lane.alerts)),
    )


def _by_name(callers: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """A caller that was removed and added again stands under one name with two IDs."""
    counts: Counter[str] = Counter()
    for caller, count in callers.items():
        counts[names.get(caller, caller)] += count
    return dict(counts)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
