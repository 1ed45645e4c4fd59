"""The forecast, by example and by property: the sends that would go before a call's own, as they would be merged now."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dispatch.fairness import FairQueue, Waiting
from app.dispatch.forecast import Forecast
from app.domain import Priority
from tests.dispatch.stage import many, queue_of, turns, waits


def before(queue: FairQueue, call: Waiting, *, merging: bool = True) -> int:
    """The sends foretold to go before that of a call that comes now."""
    return Forecast.of(queue, merging=merging).sends_before(call, queue.turn_of(call), merging=merging)


def in_truth(queue: FairQueue, call: Waiting, *, merging: bool = True) -> int:
    """The sends that do go before it if nothing else comes or leaves."""
    played = queue.copy()
    played.add(call)
    return next(place for place, calls in enumerate(turns(played, merging=merging)) if call.call_id in calls)


@pytest.mark.parametrize("waiting", [0, 1, 2, 9, 100])
def test_a_callers_next_call_goes_behind_its_others(waiting: int) -> None:
    """One send each."""
    queue = queue_of(*many("a", waiting))

    assert len(Forecast.of(queue, merging=True)) == waiting
    assert before(queue, waits("a-new")) == waiting


@pytest.mark.parametrize(("waiting", "sends"), [(0, 0), (1, 1), (100, 1)])
def test_a_caller_that_has_none_waiting_goes_behind_one_send(waiting: int, sends: int) -> None:
    """However many another has waiting; only the turn that was first already stays so."""
    assert before(queue_of(*many("a", waiting)), waits("b-new")) == sends


def test_turns_already_owed_are_foretold() -> None:
    """Who had its turn just now waits until the others had theirs."""
    queue = queue_of(waits("a-0"), *many("b", 3), *many("c", 3))
    queue.take(merging=False)

    assert before(queue, waits("a-new")) == in_truth(queue, waits("a-new")) == 2


def test_a_batch_call_lets_eight_interactive_ones_of_each_turn_go_first() -> None:
    """Its weight is foretold with it."""
    queue = queue_of(*many("a", 40), waits("b-0", priority=Priority.BATCH))
    call = waits("b-new", priority=Priority.BATCH)

    assert before(queue, call) == pytest.approx(in_truth(queue, call), abs=1)
    assert before(queue, call) >= 9


def test_an_equal_call_that_waits_takes_the_new_one_along() -> None:
    """With or without merging; but never past an earlier call of its own caller."""
    queue = queue_of(waits("a-0"), waits("b-0", 1), *many("c", 3))

    assert before(queue, waits("d-new", 1), merging=False) == 1
    assert before(queue, waits("c-new", 1), merging=False) == 5
    assert before(queue_of(waits("a-0", 1)), waits("d-new", 1), merging=False) == 0


def test_an_equal_call_of_a_group_takes_nobody_along() -> None:
    """Halves of a refused send ride with nobody else."""
    queue = queue_of(waits("a-0", 1, cap=9, group="g"), *many("b", 3))

    assert before(queue, waits("d-new", 1, cap=9)) == in_truth(queue, waits("d-new", 1, cap=9)) == 2


def test_a_merged_send_with_room_takes_the_new_call_along() -> None:
    """The first that has; a full one doesn't, and nobody's own order is broken."""
    queue = queue_of(waits("a-0"), waits("b-0", 1, 2, cap=2), waits("c-0", 3, cap=2))
    alone = queue_of(waits("a-0", 1, cap=2))

    assert before(queue, waits("d-new", 4, cap=2)) == 2
    assert before(queue, waits("d-new", 1, cap=2)) == 1
    assert before(queue, waits("c-new", 4, cap=2)) == 2
    assert before(queue, waits("c-new", 4, cap=2), merging=False) == 3
    assert before(queue, waits("c-new", 4, 5, cap=2)) == 3
    assert before(alone, waits("d-new", 2, cap=2)) == 0


def test_a_call_that_would_fit_into_the_last_send_only_has_its_own_turn_before() -> None:
    """Another caller's thousand IDs don't stand before one call that could ride with the first of them."""
    queue = queue_of(*(waits(f"a-{number}", number, cap=10) for number in range(201)))
    call = waits("b-new", 9_999, cap=10)

    assert len(Forecast.of(queue, merging=True)) == 21
    assert before(queue, call) == 1
    assert in_truth(queue, call) == 0


CALLS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.frozensets(st.integers(1, 6), max_size=3),
        st.sampled_from([0, 4]),
        st.sampled_from(list(Priority)),
        st.sampled_from(["x", "y"]),
        st.sampled_from([None, None, None, "g"]),
    ),
    max_size=14,
)


def made(calls: list[tuple[str, frozenset[int], int, Priority, str, str | None]]) -> list[Waiting]:
    """Calls that wait, from what was drawn."""
    return [
        waits(f"{caller}-{place}", *ids, cap=cap, priority=priority, subject=subject, group=group if cap else None)
        for place, (caller, ids, cap, priority, subject, group) in enumerate(calls)
    ]


@given(calls=CALLS, taken=st.integers(0, 4), merging=st.booleans())
@settings(max_examples=300, deadline=None)
def test_all_that_waits_never_takes_more_sends_than_the_quick_bound(calls: list[object], taken: int, *, merging: bool) -> None:
    """So a call that could wait for so many needs no forecast."""
    queue = queue_of(*made(calls))  # type: ignore[arg-type]
    for _ in range(min(taken, len(queue))):
        if len(queue):
            queue.take(merging=merging)

    assert len(Forecast.of(queue, merging=merging)) <= queue.most_sends(merging=merging) <= len(queue)


NEW = st.sampled_from([waits("d-new", 1, 2, cap=4, subject="x"), waits("d-new"), waits("e-new", 1, subject="y"), waits("a-new", 1, cap=4)])


@given(calls=CALLS, taken=st.integers(0, 4), call=NEW)
@settings(max_examples=300, deadline=None)
def test_without_merging_the_forecast_comes_true(calls: list[object], taken: int, call: Waiting) -> None:
    """To the very send, whatever waits and whoever had turns before; but of those that shared one, which goes first isn't foretold."""
    queue = queue_of(*made(calls))  # type: ignore[arg-type]
    for _ in range(taken):
        if len(queue):
            queue.take(merging=False)

    foretold, truth = before(queue, call, merging=False), in_truth(queue, call, merging=False)
    shared = any(len(calls) > 1 for calls in turns(queue.copy(), merging=False))

    assert 0 <= foretold - truth <= (3 if shared else 0)


@given(calls=CALLS, taken=st.integers(0, 4), call=NEW)
@settings(max_examples=300, deadline=None)
def test_with_merging_the_forecast_is_off_by_what_the_call_itself_changes(calls: list[object], taken: int, call: Waiting) -> None:
    """It may take another's seat, and so turn the order of those after it; a few sends, one way or the other."""
    queue = queue_of(*made(calls))  # type: ignore[arg-type]
    for _ in range(taken):
        if len(queue):
            queue.take(merging=True)

    assert abs(before(queue, call) - in_truth(queue, call)) <= 5
