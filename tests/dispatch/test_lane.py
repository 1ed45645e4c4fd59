"""The lane in simulated time, by example."""

from __future__ import annotations

import pytest

from app.dispatch.lane import Hold, Lane, LanePolicy, Release, Wait, Waiting
from app.domain import Burst
from app.errors import QueueFull, WaitTooLong

POLICY = LanePolicy()


def lane(policy: LanePolicy = POLICY, open_from: float = 0.0, waiting: int = 0) -> Lane:
    """A lane with so many calls of one caller waiting."""
    made = Lane(policy, open_from)
    for number in range(waiting):
        assert made.enter(Waiting(f"call-{number}", "a", 1_000), 0) is None
    return made


def released(lane: Lane, now: float) -> Release:
    """The release that the lane must decide on."""
    decision = lane.next(now)
    assert isinstance(decision, Release)
    return decision


def sent(lane: Lane, now: float, *, round_trip: float | None = None) -> Hold:
    """Release one send, written at once and, with a round trip, answered."""
    hold = released(lane, now).hold
    lane.written(hold, now)
    if round_trip is not None:
        lane.answered(hold, now + round_trip)
        lane.ended(hold, now + round_trip, answered=True)
    return hold


def test_two_go_at_once_and_the_third_waits_for_the_first_answer_and_a_second() -> None:
    """A slot is free again `per` after the answer that proves its send arrived."""
    one = lane(waiting=3)
    sent(one, 0, round_trip=0.1)
    sent(one, 0, round_trip=0.2)

    assert one.next(1.05) == Wait(1.1)
    assert isinstance(one.next(1.1), Release)


def test_a_slow_answer_frees_its_slot_after_the_guard() -> None:
    """Without an answer a slot is free `per + guard` after the write."""
    one = lane(waiting=3)
    sent(one, 0)
    sent(one, 0)

    assert one.next(0.5) == Wait(1.25)
    assert isinstance(one.next(1.25), Release)


def test_a_send_that_is_not_written_yet_holds_its_slot_without_end() -> None:
    """DNS, TCP and TLS set-up never squeeze two sends together: the count starts at the write."""
    one = lane(waiting=3)
    first, second = released(one, 0).hold, released(one, 0).hold

    assert one.next(100) == Wait(None)
    one.written(first, 100)
    assert one.next(100) == Wait(101.25)
    one.written(second, 100.5)
    assert one.next(101) == Wait(101.25)


def test_a_send_that_failed_before_its_write_frees_its_slot_at_once() -> None:
    """What never left doesn't count."""
    one = lane(waiting=3)
    first = released(one, 0).hold
    sent(one, 0)
    one.ended(first, 0.3, answered=False)

    assert isinstance(one.next(0.3), Release)


def test_a_lost_answer_holds_its_slot_from_the_abort() -> None:
    """A send without an answer may arrive until its connection is aborted."""
    one = lane(waiting=4)
    first = sent(one, 0)
    sent(one, 0, round_trip=0.01)
    one.ended(first, 0.8, answered=False)

    assert one.next(0.9) == Wait(1.01)
    sent(one, 1.01, round_trip=0.01)
    assert one.next(1.5) == Wait(2.02)


def test_a_lost_answer_takes_its_slot_again_after_it_was_free() -> None:
    """An abort long after the slot was given back counts from the abort all the same."""
    one = lane(waiting=4)
    first = sent(one, 0)
    sent(one, 0, round_trip=0.01)
    sent(one, 5, round_trip=0.01)
    one.ended(first, 5.5, answered=False)

    assert one.next(5.6) == Wait(6.01)


def test_an_answer_after_the_guard_changes_nothing() -> None:
    """A slot that was taken by another send meanwhile isn't touched by the late answer of the first."""
    one = lane(waiting=4)
    first, _ = sent(one, 0), sent(one, 0)
    third = sent(one, 1.25)
    one.answered(first, 1.5)
    one.ended(first, 1.5, answered=True)

    assert third.until == 2.5
    assert isinstance(one.next(1.5), Release)
    assert one.next(1.5) == Wait(None)


def test_a_cold_lane_waits_before_its_first_send() -> None:
    """A lane whose past isn't known sends nothing for `per + guard`."""
    one = Lane.cold(POLICY, known_since=10)
    one.enter(Waiting("call", "a", 1_000), 10)

    assert one.next(10) == Wait(11.25)
    assert isinstance(one.next(11.25), Release)


def test_a_pause_holds_everything_and_a_shorter_one_does_not_cut_it() -> None:
    """After a 429 the whole lane is still until the time it named."""
    one = lane(waiting=1)
    one.pause(7)
    one.pause(3)

    assert one.next(5) == Wait(7)


def test_first_in_first_out() -> None:
    """Calls go in the order they came."""
    one = lane(waiting=4)

    order = []
    for turn in range(4):
        decision = released(one, turn * 10)
        order.append(decision.waiting.call_id)
        one.ended(decision.hold, turn * 10, answered=False)
    assert order == ["call-0", "call-1", "call-2", "call-3"]


def test_a_call_that_left_is_not_released() -> None:
    """A withdrawn call is gone; withdrawing it again says so."""
    one = lane(waiting=2)

    assert one.withdraw("call-0")
    assert not one.withdraw("call-0")
    assert released(one, 0).waiting.call_id == "call-1"
    assert not one.withdraw("call-1")


def test_the_bounds_of_lane_and_caller_hold() -> None:
    """The lane takes so many calls in all and so many of one caller; who leaves makes room."""
    one = Lane(LanePolicy(depth=3, caller_depth=2), 0)
    for name in ("a1", "a2"):
        one.enter(Waiting(name, "a", 1_000), 0)
    third_of_a = one.enter(Waiting("a3", "a", 1_000), 0)
    first_of_b = one.enter(Waiting("b1", "b", 1_000), 0)
    second_of_b = one.enter(Waiting("b2", "b", 1_000), 0)
    one.withdraw("a1")

    assert third_of_a
    assert isinstance(third_of_a.error, QueueFull)
    assert third_of_a.error.retry_after
    assert first_of_b is None
    assert second_of_b
    assert isinstance(second_of_b.error, QueueFull)
    assert one.enter(Waiting("b3", "b", 1_000), 0) is None


@pytest.mark.parametrize(
    ("waiting", "predicted"),
    [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (9, 4), (10, 5)],
)
def test_the_predicted_wait_counts_the_sends_ahead(waiting: int, predicted: float) -> None:
    """Two go at once, two a second later, and so on."""
    assert lane(waiting=waiting).predicted_wait(waiting, 0) == predicted


def test_the_predicted_wait_knows_sends_cold_start_pause_and_round_trip() -> None:
    """Slots taken, times before which nothing goes, and the round trip itself are all part of the wait."""
    one = lane(waiting=1)
    sent(one, 0, round_trip=0.2)
    paused = lane()
    paused.pause(5)

    assert one.predicted_wait(0, 0.2) == pytest.approx(0.2)
    assert one.predicted_wait(1, 0.2) == pytest.approx(1.0 + 0.2)
    assert paused.predicted_wait(0, 1) == 4


def test_a_slow_minute_is_forgotten() -> None:
    """Round trips older than a minute don't keep short waits out for ever."""
    one = lane(waiting=1)
    sent(one, 0, round_trip=20)

    assert one.predicted_wait(0, 30) == 20
    assert one.predicted_wait(0, 81) == 0


def test_a_call_that_can_not_make_its_deadline_is_refused_with_the_time_to_come_back() -> None:
    """The refusal names the predicted wait, rounded up, and when the same wait would do."""
    one = lane(waiting=20)
    rejected = one.enter(Waiting("late", "a", 4), 0)

    assert rejected
    assert isinstance(rejected.error, WaitTooLong)
    assert rejected.error.members["predicted_wait"] == 10
    assert rejected.error.retry_after == 6
    assert one.check("a", 10, 0) is None


def test_at_most_eight_are_under_way() -> None:
    """However slow the upstream, a lane has eight sends in flight."""
    one = lane(waiting=20)
    now, count = 0.0, 0
    while isinstance(decision := one.next(now), Release):
        one.written(decision.hold, now)
        count += 1
        now += 1.25 if count % 2 == 0 else 0

    assert count == 8
    assert one.in_flight == 8
    assert decision == Wait(None)


def test_spaced_sends_go_one_by_one() -> None:
    """`burst: spaced` sends once each `per/rate`."""
    one = lane(LanePolicy.of(2, Burst.SPACED, depth=10, caller_depth=10), waiting=2)
    sent(one, 0, round_trip=0.01)

    assert one.next(0.1) == Wait(0.51)
    assert isinstance(one.next(0.51), Release)


def test_the_state_tells_what_remains() -> None:
    """The quota counts free slots not yet spoken for, and when all are free."""
    one = lane(waiting=1)
    before = one.state(0)
    sent(one, 0, round_trip=0.5)
    after = one.state(0.5)

    assert (before.limit, before.remaining, before.reset) == (2, 1, 0)
    assert lane(LanePolicy.of(2, Burst.SPACED, depth=1, caller_depth=1)).state(0).limit == 2
    assert (after.remaining, after.reset) == (1, 0.75)
    assert lane(waiting=5).state(0).remaining == 0
