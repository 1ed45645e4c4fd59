"""The breaker, by example."""

from __future__ import annotations

import pytest

from app.dispatch.breaker import Breaker


def opened(at: float = 0.0) -> Breaker:
    """A breaker that three refusals opened."""
    breaker = Breaker()
    for _ in range(3):
        breaker.refused(at)
    return breaker


def test_the_third_refusal_in_a_row_opens_it() -> None:
    """Two are borne, the third says that it opened."""
    breaker = Breaker()
    answers = [breaker.refused(0) for _ in range(3)]

    assert answers == [False, False, True]
    assert breaker.open
    assert breaker.holds_back(0)
    assert not Breaker().holds_back(0)


def test_an_acceptance_between_begins_the_count_anew() -> None:
    """Refusals count in a row only."""
    breaker = Breaker()
    breaker.refused(0)
    breaker.refused(0)
    breaker.accepted()
    breaker.refused(0)
    breaker.refused(0)

    assert not breaker.open
    assert breaker.refused(0)


def test_a_closed_breaker_has_no_probe_and_no_time_to_wait() -> None:
    """Calls just go."""
    breaker = Breaker()
    breaker.admit("call")

    assert not breaker.holds_back(0)
    assert breaker.probe is None
    assert breaker.retry_after(0) is None


def test_one_call_probes_after_a_minute() -> None:
    """Until then all are held back, and after it all but the one that came first."""
    breaker = opened(at=10)

    assert breaker.holds_back(69.9)
    assert breaker.retry_after(40) == 30
    assert not breaker.holds_back(70)
    assert breaker.retry_after(71) == 0
    breaker.admit("probe")
    assert breaker.holds_back(71)
    assert breaker.retry_after(71) is None


def test_each_probe_that_is_refused_doubles_the_pause_to_an_hour() -> None:
    """1 min, 2, 4, 8, 16, 32, then 60 each time."""
    breaker, now = opened(), 0.0
    minutes = []
    for number in range(9):
        wait = breaker.retry_after(now)
        assert wait
        minutes.append(wait / 60)
        now += wait
        breaker.admit(f"probe-{number}")
        assert breaker.refused(now)

    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_refusal_of_a_send_that_was_under_way_does_not_lengthen_the_pause() -> None:
    """Eight may be in flight when it opens; what they bring is no news."""
    breaker = opened()

    assert not breaker.refused(30)
    assert breaker.retry_after(30) == 30


def test_a_probe_that_succeeds_closes_it() -> None:
    """The next streak begins with the shortest pause again."""
    breaker = opened()
    breaker.admit("probe")
    breaker.refused(60)
    breaker.admit("second")
    breaker.accepted()
    closed = breaker.open, breaker.probe, breaker.refusals
    for _ in range(3):
        breaker.refused(500)

    assert closed == (False, None, 0)
    assert breaker.retry_after(500) == 60


@pytest.mark.parametrize(("gone", "free"), [("probe", True), ("another", False)])
def test_a_probe_that_left_frees_its_place(gone: str, free: bool) -> None:  # noqa: FBT001 - an example's column
    """The next call probes then, at once; any other call's leaving changes nothing."""
    breaker = opened()
    breaker.admit("probe")
    breaker.gone(gone)

    assert breaker.holds_back(60) is not free
    assert breaker.open


def test_a_refusal_frees_the_probes_place() -> None:
    """After the next pause another call may probe."""
    breaker = opened()
    breaker.admit("probe")
    breaker.refused(60)

    assert breaker.holds_back(179.9)
    assert not breaker.holds_back(180)
