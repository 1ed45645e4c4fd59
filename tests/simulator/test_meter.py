"""The rate rule, by example and against a brute-force reference."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.simulator.meter import Meter

# Eighths of a second are exact in binary, so that arrivals often fall exactly on the window's edge.
GAPS = st.lists(st.integers(0, 12).map(lambda eighths: eighths / 8), max_size=60)
RATES = st.integers(1, 4)


def brute_force_most(times: list[float]) -> int:
    """Return the most times in any `[t, t + 1)`."""
    return max((sum(start <= time < start + 1 for time in times) for start in times), default=0)


def brute_force_accepted(times: list[float], rate: int) -> list[float]:
    """Return the times a strict sliding window accepts, looking at the whole past each time."""
    accepted: list[float] = []
    for time in times:
        if sum(time < earlier + 1 for earlier in accepted) < rate:
            accepted.append(time)
    return accepted


def test_the_third_arrival_within_a_second_is_refused() -> None:
    """Two arrivals fill the window, however late in the second the third comes."""
    meter = Meter()

    decisions = [meter.arrive(at) for at in (10.0, 10.5, 10.999)]

    assert decisions == [True, True, False]
    assert (meter.arrivals, meter.rejected, meter.most_in_any_second) == (3, 1, 3)


def test_an_arrival_exactly_one_second_after_the_first_of_two_is_accepted() -> None:
    """The window is half open: its end belongs to the next."""
    meter = Meter()

    decisions = [meter.arrive(at) for at in (10.0, 10.0, 11.0)]

    assert decisions == [True, True, True]
    assert meter.most_in_any_second == 2


def test_refused_arrivals_do_not_prolong_the_refusing() -> None:
    """Only accepted arrivals fill the window, so a caller who hammers still gets its two a second."""
    meter = Meter()

    decisions = [meter.arrive(at) for at in (10.0, 10.0, 10.5, 10.9, 11.0)]

    assert decisions == [True, True, False, False, True]


def test_a_time_that_runs_backwards_counts_as_the_latest() -> None:
    """Stamps taken in one order and counted in another never open a window early."""
    meter = Meter()

    decisions = [meter.arrive(at) for at in (10.0, 11.5, 11.25, 11.75)]

    assert decisions == [True, True, True, False]
    assert list(meter.times) == [10.0, 11.5, 11.5, 11.75]


def test_the_history_of_times_is_bounded() -> None:
    """A meter forgets its oldest arrival times, not its counts."""
    meter = Meter(history=3)

    for at in range(5):
        meter.arrive(float(at))

    assert list(meter.times) == [2.0, 3.0, 4.0]
    assert meter.arrivals == 5


def test_a_rate_below_one_is_refused() -> None:
    """A meter that accepts nothing simulates no upstream."""
    with pytest.raises(ValueError, match="at least 1"):
        Meter(0)


@given(GAPS, RATES)
def test_decisions_and_statistics_agree_with_brute_force(gaps: list[float], rate: int) -> None:
    """The incremental meter decides and counts as one that looks at every arrival each time."""
    times = list(accumulate(gaps, initial=100.0))
    meter = Meter(rate)

    accepted = [at for at in times if meter.arrive(at)]

    assert accepted == brute_force_accepted(times, rate)
    assert meter.most_in_any_second == brute_force_most(times)
    assert meter.rejected == len(times) - len(accepted)


@given(GAPS, RATES)
def test_no_second_holds_more_accepted_arrivals_than_the_rate(gaps: list[float], rate: int) -> None:
    """Whatever arrives, what is accepted keeps the rule."""
    meter = Meter(rate)

    accepted = [at for at in accumulate(gaps) if meter.arrive(at)]

    assert brute_force_most(accepted) <= rate
