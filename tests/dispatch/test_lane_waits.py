"""What a lane foretells and tells of itself, by example: waits, quota, tallies; and what it hands on."""

from __future__ import annotations

import pytest

from app.dispatch.lane import Lane, LanePolicy, LaneState, Release, Wait
from app.domain import Burst, Pacing
from app.errors import WaitTooLong
from tests.dispatch.stage import lane_of, many, released, sent, waits

SPACED = LanePolicy.of(2, Burst.SPACED, depth=10, caller_depth=10)


@pytest.mark.parametrize(("waiting", "predicted"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (9, 4), (10, 5)])
def test_the_predicted_wait_counts_the_sends_ahead(waiting: int, predicted: float) -> None:
    """Two go at once, two a second later, and so on."""
    assert lane_of(*many("a", waiting)).predicted_wait(waits("a-new"), 0) == predicted


def test_calls_that_will_share_a_send_count_once() -> None:
    """A hundred of one ID each, merged up to fifty, are two sends; unmerged a hundred."""
    lane = lane_of(*(waits(f"a-{number}", number, cap=50) for number in range(100)))
    merged = lane.predicted_wait(waits("a-new", 7_777, cap=50), 0)
    lane.merging = False

    assert merged == 1
    assert lane.predicted_wait(waits("a-new", 7_777, cap=50), 0) == 50


def test_a_call_that_finds_a_seat_is_foretold_to_take_it() -> None:
    """The second of two sends has room for one more."""
    lane = lane_of(*(waits(f"a-{number}", number, cap=50) for number in range(99)))

    assert lane.predicted_wait(waits("a-new", 7_777, cap=50), 0) == 0


def test_the_same_queue_is_foretold_once() -> None:
    """Refusing a flood costs no forecast each; a change of the queue does."""
    lane = lane_of(*many("a", 9))
    first, second = lane.forecast(), lane.forecast()
    lane.withdraw("a-0")

    assert first is second
    assert lane.forecast() is not first


def test_a_call_that_shares_in_time_is_taken_in_though_many_wait() -> None:
    """And one that won't is refused with what its own wait would be."""
    lane = lane_of(*(waits(f"a-{number}", number, cap=50) for number in range(100)), *many("b", 100))
    shares = lane.enter(waits("a-new", 3, cap=50, deadline=40), 0)
    alone = lane.check(waits("b-new", deadline=40), 0)

    assert shares is None
    assert alone
    assert isinstance(alone.error, WaitTooLong)
    assert alone.error.members["predicted_wait"] == 51


def test_after_merging_has_ended_nobody_is_taken_in_for_its_sake() -> None:
    """The sends ahead are counted as they will go now."""
    lane = lane_of(*(waits(f"a-{number}", number, cap=50) for number in range(100)))
    lane.merging = False

    assert lane.check(waits("a-new", 101, cap=50, deadline=49), 0) is not None
    assert lane.check(waits("a-new", 101, cap=50, deadline=50), 0) is None


def test_calls_of_two_parameters_in_turn_do_not_count_as_merged() -> None:
    """None of a caller's calls passes an earlier one."""
    lane = lane_of(*(waits(f"a-{n}", n, cap=50, subject="x y"[n % 2 * 2]) for n in range(100)))

    assert lane.check(waits("a-new", 101, cap=50, subject="x", deadline=49), 0) is not None
    assert lane.check(waits("a-new", 101, cap=50, subject="x", deadline=50), 0) is None


def test_the_predicted_wait_knows_slots_cold_start_pause_and_round_trip() -> None:
    """Slots taken, times before which nothing goes, and the round trip itself are all part of the wait."""
    lane = lane_of(*many("a", 1))
    sent(lane, 0, round_trip=0.2)
    paused = lane_of()
    paused.pause(5)

    assert lane.predicted_wait(waits("a-new"), 0.2) == pytest.approx(0.2)
    lane.queue.add(waits("a-1"))
    assert lane.predicted_wait(waits("a-new"), 0.2) == pytest.approx(1.0 + 0.2)
    assert paused.predicted_wait(waits("a-new"), 1) == 4
    assert Lane.cold(LanePolicy(), 10).predicted_wait(waits("a-new"), 10) == 1.25


def test_a_slow_minute_is_forgotten() -> None:
    """Round trips older than a minute don't keep short waits out for ever."""
    lane = lane_of(*many("a", 1))
    sent(lane, 0, round_trip=20)

    assert lane.predicted_wait(waits("a-new"), 30) == 20
    assert lane.predicted_wait(waits("a-new"), 81) == 0


@pytest.mark.parametrize(("deadline", "taken_in"), [(10.0, True), (9.9, False)])
def test_a_call_is_taken_in_if_it_can_have_its_answer_by_its_deadline(deadline: float, *, taken_in: bool) -> None:
    """To the very moment."""
    lane = lane_of(*many("a", 20))

    assert (lane.enter(waits("a-late", deadline=deadline), 0) is None) is taken_in


@pytest.mark.parametrize(("deadline", "taken_in"), [(3.0, True), (2.999, False)])
def test_a_call_whose_turn_comes_before_others_is_taken_in_by_its_own_wait(deadline: float, *, taken_in: bool) -> None:
    """Also to the very moment."""
    lane = lane_of(*many("a", 20), open_from=3)

    assert (lane.enter(waits("b-0", deadline=deadline), 0) is None) is taken_in


def played(lane: Lane, round_trip: float, wanted: str) -> float:
    """Let the lane send on a steady network until a call has its answer: when."""
    now, ends = 0.0, {}
    for _ in range(2_000):
        decision = lane.next(now)
        if isinstance(decision, Release):
            lane.written(decision.hold, now)
            ends[decision.hold] = now + round_trip
            if any(call.call_id == wanted for call in decision.calls):
                return now + round_trip
            continue
        now = min([*ends.values(), *([decision.until] if decision.until is not None else [])])
        for hold in [hold for hold, end in ends.items() if end <= now]:
            lane.answered(hold, now)
            lane.ended(hold, now)
            del ends[hold]
    raise AssertionError(wanted)


@pytest.mark.parametrize("pacing", Pacing)
@pytest.mark.parametrize("round_trip", [0.0, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("merged", [False, True])
def test_the_predicted_wait_comes_true_on_a_steady_network(pacing: Pacing, round_trip: float, *, merged: bool) -> None:
    """To one part in a hundred, merged or not, whichever the pacing, once the network is known."""
    lane = lane_of(*(waits(f"a-{number}", number + 1, cap=2 * merged) for number in range(40)), policy=LanePolicy(pacing=pacing))
    for _ in range(31):
        lane.guard.answered(round_trip, 0)
    lane.guard.answers = 1_000_000
    call = waits("a-last", 99, cap=2 * merged)
    predicted = lane.predicted_wait(call, 0)
    lane.enter(call, 0)

    assert played(lane, round_trip, "a-last") == pytest.approx(predicted, rel=0.01, abs=0.01)


def test_the_predicted_wait_comes_true_where_answers_take_so_long_that_no_more_may_be_under_way() -> None:
    """Eight sends at most are in flight: with answers after ten seconds that is less than the rate."""
    lane = lane_of(*many("a", 40))
    for _ in range(31):
        lane.guard.answered(10.0, 0)
    predicted = lane.predicted_wait(waits("a-last"), 0)
    lane.enter(waits("a-last"), 0)

    assert played(lane, 10.0, "a-last") == pytest.approx(predicted, rel=0.05)


def test_the_state_tells_what_remains() -> None:
    """The quota counts free slots not yet spoken for, and when all are free."""
    lane = lane_of(*many("a", 1))
    before = lane.state(0)
    sent(lane, 0, round_trip=0.5)

    assert before == LaneState(2, 1, 0)
    assert lane.state(0.5) == LaneState(2, 1, 0.75)
    assert lane.state(1.25) == LaneState(2, 2, 0)
    assert lane_of(policy=SPACED).state(0).limit == 2
    assert lane_of(*many("a", 5)).state(0).remaining == 0
    assert lane_of(open_from=3).state(1) == LaneState(2, 0, 2)


def test_sends_are_tallied_for_a_minute() -> None:
    """Those of the last so many seconds, by their writes."""
    lane = lane_of(*many("a", 5))
    for at in (0, 30, 59, 59.5):
        sent(lane, at, round_trip=0.1)
    released(lane, 61)

    assert [lane.sent_within(1, 59.9), lane.sent_within(60, 59.9), lane.sent_within(60, 60), lane.sent_within(60, 89.9)] == [2, 4, 3, 3]
    assert lane.sent_within(60, 90) == 2
    assert lane.sent_within(0.5, 60) == 0


def test_a_lane_is_idle_when_nothing_waits_or_counts() -> None:
    """A call waiting, a send under way, a slot held: each keeps it."""
    lane = lane_of(*many("a", 1))
    waiting = lane.idle(0)
    hold = released(lane, 0).hold
    lane.written(hold, 0)
    under_way = lane.idle(10)
    lane.answered(hold, 10)
    lane.ended(hold, 10)

    assert (waiting, under_way) == (False, False)
    assert lane.idle(10)
    assert lane_of().idle(0)


def test_a_queue_is_handed_over_with_every_place_in_it() -> None:
    """The calls of a token that was rotated keep their places; nothing of the old lane's pace goes with them."""
    old, new = lane_of(*many("a", 3), waits("b-0")), lane_of(open_from=7)
    released(old, 0)
    new.predicted_wait(waits("a-new"), 0)
    new.take_over(old.hand_over())

    assert len(old.queue) == 0
    assert old.next(0) == Wait(None)
    assert new.next(0) == Wait(7)
    assert new.predicted_wait(waits("a-new"), 7) == 1
    assert [released(new, 7).waiting.call_id, released(new, 7).waiting.call_id] == ["b-0", "a-1"]


def test_other_bounds_are_kept_from_their_adoption_on() -> None:
    """Slots that are held stay held."""
    lane = lane_of(*many("a", 9))
    sent(lane, 0)
    sent(lane, 0)
    lane.adopt(LanePolicy(slots=3, pacing=Pacing.PROVEN, depth=6))
    third = released(lane, 0)

    assert lane.next(0.5) == Wait(1.25)
    assert lane.check(waits("b-0"), 0) is not None
    lane.written(third.hold, 0)
    lane.next(1.25)
    assert lane.guard.pacing is Pacing.PROVEN
    assert third.hold.until > 1_000


def test_a_longer_window_is_adopted_from_a_cold_start() -> None:
    """A spaced lane remembers one send only; as a window of two it would send a third within the second."""
    lane = lane_of(*many("a", 5), policy=SPACED)
    sent(lane, 0, round_trip=0)
    sent(lane, 0.5, round_trip=0)
    lane.adopt(LanePolicy())

    assert lane.next(0.6) == Wait(0.6 + 1.25)
    lane.adopt(LanePolicy())
    assert lane.next(1.85) != Wait(1.85 + 1.25)


def test_a_shorter_window_needs_no_cold_start() -> None:
    """What the longer one holds is enough."""
    lane = lane_of(*many("a", 5))
    sent(lane, 0, round_trip=0)
    lane.adopt(SPACED)

    assert lane.next(0.5) == Wait(1)
