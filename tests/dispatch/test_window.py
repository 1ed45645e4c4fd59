"""The window, by example: how long each send holds its slot."""

from __future__ import annotations

import pytest

from app.dispatch.guard import Guard
from app.dispatch.window import NEVER, Hold, Window
from app.domain import Pacing

G = 0.25


def window_of(pacing: Pacing = Pacing.LEARNED, *, slots: int = 2, answers: int = 0) -> Window:
    """A window whose guard has seen so many answers."""
    return Window(slots, 1.0, Guard(pacing, answers=answers))


def written(window: Window, at: float) -> Hold:
    """A send that took a slot and was written at once."""
    hold = window.take(at)
    window.written(hold, at, None)
    return hold


def test_as_many_sends_as_slots_go_at_once() -> None:
    """A slot is free until it is taken."""
    window = window_of(slots=3)
    opens = []
    for _ in range(3):
        opens.append(window.opens())
        window.take(0)

    assert opens == [-NEVER] * 3
    assert window.opens() == NEVER


def test_a_send_that_is_not_written_yet_holds_its_slot_without_end() -> None:
    """DNS, TCP and TLS set-up never squeeze two sends together: the count starts at the write."""
    window = window_of(slots=1)
    hold = window.take(0)
    window.expire(1_000)

    assert window.opens() == NEVER
    window.written(hold, 1_000, None)
    assert window.opens() == 1_000 + 1 + G


def test_a_late_end_counts_before_whoever_prepares_to_write() -> None:
    """A send whose slot had ended by time and which is aborted only now may arrive now: the next one must reckon with it."""
    window = window_of(slots=1)
    late = written(window, 0)
    window.expire(10)
    preparing = window.take(10)
    other = window.take(10)
    window.ended(late, 10)

    assert window.opens_for(preparing) == 10 + 1 + G
    assert window.opens_for(other) == NEVER


def test_an_answer_frees_its_slot_a_second_later() -> None:
    """The send had arrived before its answer left."""
    window = window_of(slots=1)
    hold = written(window, 0)
    window.answered(hold, 0.1)

    assert window.opens() == 1.1
    window.expire(1.0999)
    assert window.opens() == 1.1
    window.expire(1.1)
    assert window.opens() == -NEVER


def test_a_round_trip_counts_from_the_write() -> None:
    """However long the set-up before it took; and a new peer begins the learning anew."""
    window = window_of(answers=40)
    hold = window.take(0)
    window.written(hold, 5, "192.0.2.1")
    answers = window.guard.answers
    window.answered(hold, 5.5)

    assert answers == 0
    assert window.guard.smallest_round_trip(5.5) == 0.5


def test_a_slow_answer_does_not_keep_its_slot_beyond_the_guard() -> None:
    """A second and G after the write the slot is free, answered or not."""
    window = window_of(slots=1)
    hold = written(window, 0)
    window.answered(hold, 0.9)

    assert window.opens() == 1.25


def test_what_was_learned_frees_a_slot_sooner() -> None:
    """An answer frees its slot a second later less the share of the smallest round trip."""
    window = window_of(slots=1, answers=39)
    hold = written(window, 0)
    window.answered(hold, 0.1)

    assert window.guard.answers == 40
    assert window.opens() == pytest.approx(1.1 - 0.45 * 0.1)


def test_the_margin_that_counts_is_that_of_the_write() -> None:
    """A 429 later on doesn't change what is held already."""
    window = window_of(slots=1)
    written(window, 0)
    window.guard.margin = 1.0

    assert window.opens() == 1.25
    window.expire(1.25)
    written(window, 2)
    assert window.opens() == 4


def test_proven_pacing_waits_for_the_answer_itself() -> None:
    """However long it takes; then a second from the answer, nothing taken off."""
    window = window_of(Pacing.PROVEN, slots=1, answers=1_000)
    hold = written(window, 0)
    before = window.opens()
    window.answered(hold, 50)

    assert before == NEVER
    assert window.opens() == 51


def test_a_send_that_failed_before_its_write_frees_its_slot_at_once() -> None:
    """What never left doesn't count."""
    window = window_of(slots=1)
    hold = window.take(0)
    window.ended(hold, 0.3)

    assert window.opens() == 0.3
    window.expire(0.3)
    assert window.opens() == -NEVER


def test_a_send_that_was_answered_counts_though_its_write_was_not_seen() -> None:
    """What was answered had arrived; the slot is held for a second after the answer."""
    window = window_of(slots=1)
    hold = window.take(0)
    window.answered(hold, 0.2)
    window.ended(hold, 0.2)

    assert window.opens() == 1.2
    assert window.guard.smallest_round_trip(0.2) == 0.2


@pytest.mark.parametrize("pacing", Pacing)
def test_a_lost_answer_holds_its_slot_from_the_abort(pacing: Pacing) -> None:
    """A send without an answer may arrive until its connection is aborted, and G later at most."""
    window = window_of(pacing, slots=1)
    hold = written(window, 0)
    window.ended(hold, 0.8)

    assert window.opens() == pytest.approx(0.8 + 1 + G)


def test_an_abort_takes_the_slot_again_after_it_was_free() -> None:
    """Long after the slot was given back, the abort counts all the same."""
    window = window_of(slots=1)
    hold = written(window, 0)
    window.expire(5)
    free = window.opens()
    window.ended(hold, 5)

    assert free == -NEVER
    assert window.opens() == 6.25


def test_the_end_of_an_answered_send_changes_nothing() -> None:
    """Its body may be long, or break off: it had arrived."""
    window = window_of(slots=1)
    hold = written(window, 0)
    window.answered(hold, 0.1)
    window.ended(hold, 30)

    assert window.opens() == 1.1


def test_an_answer_after_its_slot_was_free_takes_no_slot() -> None:
    """The slot that another send holds meanwhile isn't touched by it."""
    window = window_of(slots=1)
    first = written(window, 0)
    window.expire(1.25)
    written(window, 1.25)
    window.answered(first, 1.5)
    window.ended(first, 1.5)

    assert window.opens() == 2.5
    assert window.guard.answers == 1


def test_with_more_holds_than_slots_the_first_to_end_frees_none() -> None:
    """An abort can hold a slot that was taken anew; both must end before one is free."""
    window = window_of(slots=1)
    lost = written(window, 0)
    window.expire(1.25)
    written(window, 1.25)
    window.ended(lost, 2)

    assert window.opens() == 3.25
    assert window.slot_times(2) == [3.25]


def test_the_times_of_the_slots_are_those_of_the_last_holds() -> None:
    """Free slots are free now; a send not yet written counts as written now."""
    window = window_of(slots=3)
    window.answered(written(window, 0), 0.5)

    assert window.slot_times(0.6) == [0.6, 0.6, 1.25]
    window.take(0.6)
    assert window.slot_times(0.7) == [0.7, 1.25, 1.7]
    assert window.slot_times(1.5) == [1.5, 1.5, 2.5]


@pytest.mark.parametrize(
    ("pacing", "round_trip", "period"),
    [(Pacing.LEARNED, 0.1, 1.1), (Pacing.LEARNED, 3.0, 1.25), (Pacing.PROVEN, 0.1, 1.1), (Pacing.PROVEN, 3.0, 4.0)],
)
def test_the_period_is_how_long_a_slot_is_held_at_the_median_round_trip(pacing: Pacing, round_trip: float, period: float) -> None:
    """By the same rule as the slots themselves."""
    window = window_of(pacing)
    window.guard.answered(round_trip, 0)

    assert window.period(0) == pytest.approx(period)


def test_the_period_is_shorter_for_what_was_learned() -> None:
    """The share of the smallest round trip is taken off the median one."""
    window = window_of(answers=39)
    window.guard.answered(0.1, 0)

    assert window.period(0) == pytest.approx(1.1 - 0.045)


def test_a_window_is_idle_when_no_send_counts() -> None:
    """To the very moment."""
    window = window_of()
    empty = window.idle(0)
    window.answered(written(window, 0), 0.1)

    assert empty
    assert not window.idle(1.0999)
    assert window.idle(1.1)
