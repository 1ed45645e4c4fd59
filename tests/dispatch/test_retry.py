"""Retries, by example: what is sent again, how often, and when."""

from __future__ import annotations

import random

import pytest

from app.dispatch.retry import Again, decide, pause_after, unconnected_pause
from app.domain import Garbled, Linked, Outcome, RateLimited, Refused, TimedOut, TokenRejected, Unreachable

JITTER = random.Random(1)  # noqa: S311 - a test's
NOT_CONNECTED = Unreachable("no route", uncertain=False)
LOST = Unreachable("reset", uncertain=True)
TIMED_OUT = TimedOut("no answer")


@pytest.mark.parametrize("outcome", [NOT_CONNECTED, RateLimited(3.0), RateLimited(None)])
@pytest.mark.parametrize("attempts", [0, 1, 3, 100])
@pytest.mark.parametrize("idempotent", [True, False])
def test_what_never_left_and_a_429_are_always_sent_again(outcome: Outcome, attempts: int, *, idempotent: bool) -> None:
    """At once, with a new turn: the lane's pause makes them wait."""
    assert decide(outcome, idempotent=idempotent, attempts=attempts, jitter=JITTER) == Again(0)


@pytest.mark.parametrize("outcome", [LOST, TIMED_OUT, Refused(502, ""), Refused(503, ""), Refused(504, "")])
def test_a_passing_fault_is_met_again_by_idempotent_operations_only(outcome: Outcome) -> None:
    """Three attempts in all."""
    attempts = [decide(outcome, idempotent=True, attempts=number, jitter=JITTER) for number in (1, 2, 3, 4)]

    assert [again is not None for again in attempts] == [True, True, False, False]
    assert decide(outcome, idempotent=False, attempts=1, jitter=JITTER) is None


@pytest.mark.parametrize(
    "outcome",
    [
        Linked((1,)),
        Refused(400, ""),
        Refused(404, ""),
        Refused(500, ""),
        Refused(501, ""),
        Refused(505, ""),
        TokenRejected(401, ""),
        Garbled("not JSON", 200),
    ],
)
def test_what_would_end_the_same_way_again_is_final(outcome: Outcome) -> None:
    """Success, refusals and answers that can't be understood are not sent again, idempotent or not."""
    assert decide(outcome, idempotent=True, attempts=1, jitter=JITTER) is None


@pytest.mark.parametrize(("attempts", "most"), [(1, 0.5), (2, 1.0)])
def test_the_back_off_grows_and_is_jittered_in_full(attempts: int, most: float) -> None:
    """Anything from nothing to half a second after the first attempt, to a second after the second."""
    waits = []
    for _ in range(500):
        again = decide(TIMED_OUT, idempotent=True, attempts=attempts, jitter=JITTER)
        assert again
        waits.append(again.after)

    assert 0 <= min(waits) < 0.05 * most
    assert 0.95 * most < max(waits) <= most


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(None, 1.0), (0.0, 0.0), (-5.0, 0.0), (0.5, 0.5), (30.0, 30.0), (60.0, 60.0), (60.1, 60.0), (315_360_000.0, 60.0)],
)
def test_a_429_pauses_as_it_asks_within_reason(retry_after: float | None, pause: float) -> None:
    """A second where it says nothing, a minute at most, never less than nothing."""
    assert pause_after(RateLimited(retry_after)) == pause


def test_sends_that_never_leave_pause_the_lane_for_longer_each_time() -> None:
    """100 ms, doubling to 2 s, however many there are."""
    pauses = [unconnected_pause(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 100_000)]

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
