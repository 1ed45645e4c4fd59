"""The fair queue, by example: whose turn it is, and who rides along."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from app.dispatch.fairness import FairQueue, Waiting
from app.domain import Priority
from tests.dispatch.stage import many, queue_of, turns, waits


def heads(queue: FairQueue, count: int) -> str:
    """The callers of the next so many sends, a letter each."""
    return "".join(queue.take(merging=False)[0].caller_id for _ in range(count))


def test_first_in_first_out_within_a_caller() -> None:
    """A caller's calls go in the order they came."""
    assert turns(queue_of(*many("a", 4))) == [["a-0"], ["a-1"], ["a-2"], ["a-3"]]


def test_equal_callers_take_turns() -> None:
    """However many calls each has."""
    assert heads(queue_of(*many("a", 4), *many("b", 2), *many("c", 2)), 8) == "abcabcaa"


def test_a_single_call_overtakes_another_callers_hundred() -> None:
    """It goes next, and the other loses that one turn only."""
    queue = queue_of(*many("a", 100))
    before = heads(queue, 2)
    queue.add(waits("b-0"))

    assert before == "aa"
    assert heads(queue, 4) == "baaa"


@pytest.mark.parametrize(("weight", "turns_in_all", "own"), [(1.0, 40, 20), (2.0, 45, 30), (3.0, 44, 33)])
def test_turns_go_by_weight(weight: float, turns_in_all: int, own: int) -> None:
    """Over any stretch a caller that weighs more gets so much more, to within a turn."""
    queue = queue_of(*many("a", 50), *(waits(f"b-{number}", weight=weight) for number in range(50)))
    counted = Counter(heads(queue, turns_in_all))

    assert counted["b"] == pytest.approx(own, abs=1)


def test_an_interactive_call_weighs_eight_batch_calls() -> None:
    """Also of the same caller, whose batch doesn't stand before its own interactive calls."""
    queue = queue_of(*(waits(f"a-batch{number}", priority=Priority.BATCH) for number in range(40)), *many("a", 40))
    taken = [queue.take(merging=False)[0].priority for _ in range(36)]

    assert taken.count(Priority.INTERACTIVE) == 32


def test_who_waited_idle_saves_up_no_turns() -> None:
    """A caller that comes late gets its share from then on, not what it didn't use before."""
    queue = queue_of(*many("a", 20))
    heads(queue, 10)
    for call in many("b", 10):
        queue.add(call)

    assert heads(queue, 8) == "babababa"


def test_who_leaves_and_comes_again_gains_nothing() -> None:
    """A caller's last turn stands against it even when it has nothing waiting for a while."""
    queue = queue_of(waits("b-0"), *many("a", 10))
    first = heads(queue, 1)
    queue.add(waits("b-1"))

    assert first == "b"
    assert heads(queue, 3) == "aba"


def test_an_empty_queue_forgets_who_had_turns() -> None:
    """Its virtual time begins anew, so that it never grows without end."""
    queue = queue_of(*many("a", 3))
    turns(queue)

    assert (queue.virtual, len(queue), list(queue), queue.callers) == (0, 0, [], {})
    with pytest.raises(LookupError, match=r"^nothing waits$"):
        queue.take(merging=False)


def test_a_call_that_left_is_not_taken() -> None:
    """Whether first, last or in the middle; who leaves twice, or was never there, is told so."""
    queue = queue_of(*many("a", 4), waits("b-0"))
    for call_id in ("a-0", "a-2", "b-0"):
        assert queue.remove(call_id)

    assert queue.remove("a-0") is None
    assert queue.callers == {"a": 2}
    assert turns(queue) == [["a-1"], ["a-3"]]


def test_calls_whose_time_is_over_are_taken_out() -> None:
    """At their deadline, not before; those that left already aren't named."""
    queue = queue_of(waits("a-0", deadline=5), waits("a-1", deadline=3), waits("a-2", deadline=4), waits("a-3"))
    queue.remove("a-2")
    early = queue.expire(2.999)
    late = queue.expire(5)

    assert early == []
    assert [call.call_id for call in late] == ["a-1", "a-0"]
    assert turns(queue) == [["a-3"]]


def test_calls_put_back_stand_before_their_callers_others() -> None:
    """In the order that they are given in; their earlier turn is not given back."""
    queue = queue_of(*many("a", 4), waits("b-0"))
    first, second = queue.take(merging=False)[0], queue.take(merging=False)[0]
    third = queue.take(merging=False)[0]
    queue.put_back([first, third])

    assert (first.call_id, second.call_id, third.call_id) == ("a-0", "b-0", "a-1")
    assert turns(queue) == [["a-0"], ["a-1"], ["a-2"], ["a-3"]]


def test_a_call_put_back_into_an_empty_flow_waits_for_its_next_turn() -> None:
    """A caller whose only call failed doesn't go before others again."""
    queue = queue_of(waits("a-0"), *many("b", 2), waits("c-0"))
    queue.put_back(queue.take(merging=False))

    assert heads(queue, 4) == "bcab"


def test_a_queue_knows_what_waits() -> None:
    """How many in all and of each caller, and which."""
    queue = queue_of(*many("a", 2), waits("a-batch", priority=Priority.BATCH), waits("b-0"))

    assert len(queue) == 4
    assert (queue.of_caller("a"), queue.of_caller("b"), queue.of_caller("c")) == (3, 1, 0)
    assert {call.call_id for call in queue} == {"a-0", "a-1", "a-batch", "b-0"}
    assert ("a-1" in queue, "c-0" in queue) == (True, False)


@pytest.mark.parametrize(
    ("calls", "most"),
    [
        ([waits(f"a-{number}", number, cap=50) for number in range(100)], 5),
        ([waits(f"a-{number}", number, number + 100, cap=50) for number in range(100)], 9),
        ([waits(f"a-{number}", number, cap=50, subject="xy"[number % 2]) for number in range(100)], 100),
        ([waits(f"a-{number}", number, cap=50, subject="x") for number in range(50)] + many("b", 10), 13),
        ([waits(f"a-{number}", number, cap=50, group="g") for number in range(20)], 20),
        ([waits("a-0", 1, cap=50)], 1),
        ([], 0),
    ],
)
def test_a_quick_bound_on_the_sends_that_all_will_take(calls: list[Waiting], most: int) -> None:
    """Two sends in a row exceed the cap together, where no call of another kind hides one from the other; unmerged each has its own."""
    assert queue_of(*calls).most_sends(merging=True) == most
    assert queue_of(*calls).most_sends(merging=False) == len(calls)


def test_the_bound_follows_who_leaves() -> None:
    """When the calls of another kind are gone, so are their turns; those of a copy that was played through leave the copy only."""
    queue = queue_of(*(waits(f"a-{number}", number, cap=50) for number in range(50)), waits("a-other"))
    mixed = queue.most_sends(merging=True)
    turns(queue.copy())
    queue.remove("a-other")

    assert mixed == 51
    assert queue.most_sends(merging=True) == 3


def test_playing_a_copy_through_changes_nothing() -> None:
    """Whatever the copy does, the queue itself does the same later."""
    queue = queue_of(*(waits(f"{caller}-{n}", n, 100 + n, cap=4) for n in range(3) for caller in "abc"), waits("d-0"))
    queue.take(merging=True)
    state = queue.changes, queue.callers, queue.most_sends(merging=True)
    played = turns(queue.copy())

    assert (queue.changes, queue.callers, queue.most_sends(merging=True)) == state
    assert len(queue.copy().expire(2_000_000)) == len(queue)
    assert turns(queue) == played


def test_memory_is_bounded_by_what_waits() -> None:
    """Void places, passed deadlines and flows without calls are forgotten once they are many; those that wait, or owe a turn, are not."""
    queue = queue_of(waits("d-0"), waits("a-0"), waits("b-0"), waits("c-0"))
    queue.take(merging=False)
    most = [0, 0, 0]
    for number in range(500):
        queue.add(waits(f"x{number}-0"))
        queue.remove(f"x{number}-0")
        sizes = len(queue._flows), len(queue._tickets), len(queue._deadlines)
        most = [max(pair) for pair in zip(most, sizes, strict=True)]
    queue.add(waits("d-1"))

    assert most == [2 * 3 + 64] * 3
    assert turns(queue) == [["a-0"], ["b-0"], ["c-0"], ["d-1"]]


def test_every_change_is_told() -> None:
    """Whoever keeps what it worked out of the queue sees that it is no longer so."""
    queue = queue_of()
    seen = [queue.changes]
    for call in (waits("a-0"), waits("a-1"), waits("b-0")):
        queue.add(call)
        seen.append(queue.changes)
    queue.take(merging=False)
    seen.append(queue.changes)
    queue.remove("a-1")
    seen.append(queue.changes)

    assert seen == sorted(set(seen))


def test_calls_that_are_put_back_one_by_one_stand_in_the_order_they_came() -> None:
    """Whichever comes back first; those that came later stay behind."""
    late, soon, waiting = (replace(waits(f"a-{name}"), arrived=at) for name, at in (("late", 2.0), ("soon", 1.0), ("waiting", 3.0)))
    for back in ((late, soon), (soon, late)):
        queue = queue_of(waiting)
        for one in back:
            queue.put_back([one])

        assert turns(queue) == [["a-soon"], ["a-late"], ["a-waiting"]]


def test_a_turn_that_was_lost_costs_nothing() -> None:
    """Its flow has its place again, and all goes on as if it hadn't been taken."""
    queue = queue_of(*many("a", 3), *many("b", 2))
    taken = queue.take(merging=False)
    places, changes = queue.places, queue.changes
    queue.put_back(taken)
    again = queue.changes
    queue.restore(places)

    assert changes < again < queue.changes
    assert turns(queue) == [["a-0"], ["b-0"], ["a-1"], ["b-1"], ["a-2"]]


def test_of_two_lost_turns_the_earlier_place_counts() -> None:
    """In whichever order they are given back."""
    for order in ((0, 1), (1, 0)):
        queue = queue_of(*many("a", 3))
        taken, places = [], []
        for _ in range(2):
            taken += queue.take(merging=False)
            places.append(queue.places)
        queue.put_back(taken)
        for which in order:
            queue.restore(places[which])
        queue.take(merging=False)

        assert queue.places == places[0]


def test_who_left_gets_no_place_back() -> None:
    """A caller of whom nothing waits any more, whether the queue still knows it or not."""
    queue = queue_of(*many("a", 1), *many("b", 3))
    queue.take(merging=False)
    of_a = queue.places
    queue.restore(of_a)
    queue.take(merging=False)
    of_b = queue.places
    changes = queue.changes
    queue.restore(of_a)

    assert queue.changes == changes
    queue.put_back([waits("b-0")])
    queue.restore(of_a | of_b)
    queue.take(merging=False)
    assert queue.places == of_b


def test_a_lost_turn_comes_before_who_came_since() -> None:
    """Also where the queue had been empty meanwhile, so that both would begin at the same place."""
    queue = queue_of(*many("a", 1))
    taken = queue.take(merging=False)
    places = queue.places
    queue.add(waits("b-0"))
    queue.put_back(taken)
    queue.restore(places)

    assert turns(queue) == [["a-0"], ["b-0"]]


def test_who_leaves_after_a_lost_turn_owes_nothing_for_it() -> None:
    """Its next call begins where the caller stood before."""
    queue = queue_of(*many("a", 1), *many("b", 3))
    taken = queue.take(merging=False)
    places = queue.places
    queue.put_back(taken)
    queue.restore(places)
    queue.remove("a-0")
    queue.add(waits("a-1"))

    assert turns(queue) == [["b-0"], ["a-1"], ["b-1"], ["b-2"]]
