"""Which calls share a send, by example: equal ones always, others by merging, and what each owes for it."""

from __future__ import annotations

import pytest

from app.dispatch.fairness import FairQueue
from tests.dispatch.stage import many, queue_of, turns, waits


def test_equal_calls_share_a_send_without_merging() -> None:
    """Of one caller or of several, wherever they would stand in the order."""
    queue = queue_of(waits("a-0", 1, 2), waits("a-1", 2, 1), waits("b-0", 3), waits("c-0", 1, 2))

    assert turns(queue, merging=False) == [["a-0", "a-1", "c-0"], ["b-0"]]


def test_calls_without_ids_or_of_another_subject_are_equal_to_none() -> None:
    """What isn't known to be the same isn't taken for the same."""
    queue = queue_of(waits("a-0", 1), waits("b-0", 1, subject="link-orders orderItemIds"), waits("c-0"), waits("d-0"))

    assert turns(queue) == [["a-0"], ["b-0"], ["c-0"], ["d-0"]]


def test_an_equal_call_never_passes_an_earlier_call_of_its_own_caller() -> None:
    """It waits for its turn instead."""
    queue = queue_of(waits("a-0", 1), waits("b-0", 2), waits("b-1", 1))

    assert turns(queue, merging=False) == [["a-0"], ["b-0"], ["b-1"]]


def test_a_run_of_equal_calls_shares_a_send_also_after_it_was_put_back_one_by_one() -> None:
    """A send in vain doesn't part those that shared it."""
    queue = queue_of(*(waits(f"a-{number}", 1) for number in range(5)), waits("a-5", 2))
    for call in reversed(queue.take(merging=False)):
        queue.put_back([call])

    assert turns(queue, merging=False) == [["a-0", "a-1", "a-2", "a-3", "a-4"], ["a-5"]]


def test_calls_are_merged_up_to_the_cap_in_fair_order() -> None:
    """The turn is the first's; the others ride along, the next in turn first, while their IDs fit in; then it is theirs who owe least."""
    queue = queue_of(
        waits("a-0", 1, 2, cap=4), waits("a-1", 3, cap=4), waits("b-0", 4, cap=4), waits("b-1", 5, cap=4), waits("c-0", 6, cap=4)
    )

    assert turns(queue) == [["a-0", "b-0", "c-0"], ["b-1", "a-1"]]


def test_who_rides_moves_on_in_the_order_by_its_part_of_a_full_send() -> None:
    """Callers take seats in turn, whoever began; one that owes a turn gets none before the others had as much."""
    even = queue_of(*(waits(f"{caller}-{number}", ord(caller) + number * 50, cap=4) for caller in "ab" for number in (0, 1)))
    owing = queue_of(waits("b-before"), *(waits(f"a-{number}", number, cap=4) for number in range(4)), waits("b-0", 9, cap=4))
    owing.take(merging=True)

    assert turns(even) == [["a-0", "b-0", "a-1", "b-1"]]
    assert turns(owing) == [["a-0", "a-1", "a-2", "a-3"], ["b-0"]]


def test_seats_are_taken_in_turn_however_long_the_queue_has_been_busy() -> None:
    """A caller's place counts from where the order stands, not from where it began."""
    queue = queue_of(*many("c", 5), waits("c-keeps"))
    for _ in range(5):
        queue.take(merging=True)
    for call in (waits("a-0", 1, cap=2), waits("a-1", 2, cap=2), waits("b-0", 3, cap=2)):
        queue.add(call)

    assert turns(queue)[0] == ["a-0", "b-0"]


def test_a_full_send_is_not_searched_for_calls_within_its_ids() -> None:
    """Only equals join it: a search would make each turn cost more."""
    queue = queue_of(waits("a-0", 1, 2, cap=2), waits("b-0", 1, cap=2))

    assert turns(queue) == [["a-0"], ["b-0"]]


def test_ids_in_common_count_once_towards_the_cap() -> None:
    """What is asked for already takes no room."""
    queue = queue_of(waits("a-0", 1, 2, cap=3), waits("b-0", 2, 3, cap=3), waits("c-0", 4, cap=3))

    assert turns(queue) == [["a-0", "b-0"], ["c-0"]]


def test_a_call_that_does_not_fit_keeps_its_callers_others_back() -> None:
    """A later call of the same caller doesn't ride in its place; another caller's does."""
    queue = queue_of(waits("a-0", 1, 2, cap=3), waits("b-0", 3, 4, cap=3), waits("b-1", 5, cap=3), waits("c-0", 6, cap=3))

    assert turns(queue) == [["a-0", "c-0"], ["b-0", "b-1"]]


def test_all_equals_of_a_rider_ride_with_it() -> None:
    """Equal calls share a send also where it is full without them."""
    queue = queue_of(*(waits(f"{caller}-0", *([1, 2] if number % 2 else [3, 4]), cap=4) for number, caller in enumerate("abcdef")))

    assert turns(queue) == [["a-0", "c-0", "e-0", "b-0", "d-0", "f-0"]]


@pytest.mark.parametrize("other", [waits("b-0", 2), waits("b-0", 2, cap=5), waits("b-0", 2, cap=4, subject="x"), waits("b-0")])
def test_only_calls_of_one_subject_and_cap_are_merged(other: object) -> None:
    """A cap of 0 means that results can't be told apart."""
    queue = queue_of(waits("a-0", 1, cap=4), other)  # type: ignore[arg-type]

    assert turns(queue) == [["a-0"], ["b-0"]]


def test_nothing_is_merged_where_merging_is_off() -> None:
    """The cap alone doesn't merge."""
    queue = queue_of(waits("a-0", 1, cap=4), waits("b-0", 2, cap=4))

    assert turns(queue, merging=False) == [["a-0"], ["b-0"]]


def test_a_group_is_merged_only_within_itself() -> None:
    """Halves of a refused send ride with nobody else, not even with their equals."""
    queue = queue_of(
        waits("a-0", 1, cap=9, group="g"),
        waits("b-0", 1, cap=9),
        waits("c-0", 2, cap=9, group="g"),
        waits("d-0", 3, cap=9, group="h"),
        waits("e-0", 4, cap=9),
    )

    assert turns(queue) == [["a-0", "c-0"], ["b-0", "e-0"], ["d-0"]]


def owed(queue: FairQueue) -> dict[str, float]:
    """The turns that each caller of an unused queue has to its account after the next send; all weigh 8."""
    queue.take(merging=True)
    return {flow.key[0]: flow.start * 8 for flow in queue._flows.values()}


@pytest.mark.parametrize(("count", "first", "second"), [(1, 0.5, 0.5), (3, 0.75, 0.25)])
def test_each_caller_owes_its_part_of_the_ids(count: int, first: float, second: float) -> None:
    """One that brought three of four IDs owes three quarters of a turn, the other one quarter; whether or not it has more waiting."""
    queue = queue_of(waits("a-0", *range(count), cap=9), waits("a-1"), waits("b-0", 100, cap=9))
    queue.add(waits("c-0"))

    assert owed(queue) == pytest.approx({"a": first, "b": second, "c": 0})


def test_equal_calls_owe_a_turn_together() -> None:
    """A caller that shared with three others has a quarter of a turn to its account for each of its calls."""
    queue = queue_of(waits("a-0", 1, 2), waits("a-1", 1, 2), waits("b-0", 1, 2), waits("c-0", 1, 2), *many("d", 1))

    assert owed(queue) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25, "d": 0})


def test_a_debt_is_weighed() -> None:
    """A turn costs a caller of weight 4 a quarter of what it costs others."""
    queue = queue_of(waits("a-0", weight=4.0), waits("a-1", weight=4.0), waits("b-0"))

    assert owed(queue) == pytest.approx({"a": 0.25, "b": 0})


def test_those_passed_over_keep_their_place() -> None:
    """Who didn't fit goes next, in the order as before."""
    queue = queue_of(waits("a-0", 1, cap=2), waits("b-0"), waits("c-0", 3, 4, cap=2), waits("d-0", 5, cap=2), waits("e-0"))

    assert turns(queue) == [["a-0", "d-0"], ["b-0"], ["c-0"], ["e-0"]]


@pytest.mark.parametrize(("others", "rides"), [(63, True), (64, False)])
def test_a_send_looks_past_63_callers_at_most_for_one_that_fits(others: int, *, rides: bool) -> None:
    """So that a turn's cost is bounded whatever waits."""
    queue = queue_of(waits("a-0", 1, cap=2), *(waits(f"x{number}-0") for number in range(others)), waits("z-0", 2, cap=2))

    assert (len(queue.take(merging=True)) == 2) is rides
