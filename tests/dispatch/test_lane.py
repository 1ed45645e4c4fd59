"""The lane in simulated time, by example: when it sends, what it takes in, and what it says to those it doesn't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.dispatch.lane import Lane, LanePolicy, Release, Wait
from app.domain import Burst, Pacing
from app.errors import QueueFull, WaitTooLong
from tests.dispatch.stage import lane_of, many, released, sent, waits

SPACED = LanePolicy.of(2, Burst.SPACED, depth=10, caller_depth=10)


def test_two_go_at_once_and_the_third_a_second_after_the_first_answer() -> None:
    """A slot is free again `per` after the answer that proves its send arrived."""
    lane = lane_of(*many("a", 3))
    sent(lane, 0, round_trip=0.1)
    sent(lane, 0, round_trip=0.2)

    assert lane.next(1.05) == Wait(1.1)
    assert released(lane, 1.1).hold.released == 1.1


def test_another_peer_begins_the_learning_anew() -> None:
    """The lane tells its guard whom each send was written to."""
    lane = lane_of(*many("a", 2))
    sent(lane, 0, round_trip=0.1, peer="192.0.2.1")
    sent(lane, 0, peer="192.0.2.2")

    assert lane.guard.answers == 0


def test_without_answers_the_guard_decides() -> None:
    """A slot is free `per + G` after the write."""
    lane = lane_of(*many("a", 3))
    sent(lane, 0)
    sent(lane, 0)

    assert lane.next(0.5) == Wait(1.25)
    assert isinstance(lane.next(1.25), Release)


def test_while_nothing_is_written_only_an_event_changes_anything() -> None:
    """The lane names no time then."""
    lane = lane_of(*many("a", 3))
    first, second = released(lane, 0).hold, released(lane, 0).hold

    assert lane.next(100) == Wait(None)
    lane.written(first, 100)
    assert lane.next(100) == Wait(101.25)
    lane.written(second, 100.5)
    assert lane.next(101) == Wait(101.25)


def test_proven_pacing_waits_for_answers() -> None:
    """For an event, not for a time; then for the second."""
    lane = lane_of(*many("a", 3), policy=LanePolicy(pacing=Pacing.PROVEN))
    first = sent(lane, 0)
    sent(lane, 0)

    assert lane.next(10) == Wait(None)
    lane.answered(first, 10)
    assert lane.next(10) == Wait(11)


def test_with_nothing_waiting_there_is_nothing_to_do() -> None:
    """An empty lane waits for a call."""
    assert lane_of().next(0) == Wait(None)


def test_a_tokens_rate_and_burst_make_its_policy() -> None:
    """So many sends in a second, or one in its part of a second; the bounds as given."""
    window = LanePolicy.of(3, Burst.WINDOW, depth=10, caller_depth=5)
    spaced = LanePolicy.of(4, Burst.SPACED, Pacing.PROVEN, depth=7, caller_depth=6)

    assert window == LanePolicy(slots=3, per=1.0, pacing=Pacing.LEARNED, depth=10, caller_depth=5)
    assert spaced == LanePolicy(slots=1, per=0.25, pacing=Pacing.PROVEN, depth=7, caller_depth=6)


def test_spaced_sends_go_one_by_one() -> None:
    """`burst: spaced` sends once each `per/rate`."""
    lane = lane_of(*many("a", 2), policy=SPACED)
    sent(lane, 0, round_trip=0.01)

    assert lane.next(0.1) == Wait(0.51)
    assert isinstance(lane.next(0.51), Release)


def test_a_cold_lane_waits_a_second_and_the_guard() -> None:
    """Whatever was sent before it knew can't count any more then."""
    lane = Lane.cold(LanePolicy(), known_since=10)
    lane.enter(waits("a-0"), 10)

    assert lane.next(10) == Wait(11.25)
    assert isinstance(lane.next(11.25), Release)


def test_a_pause_holds_everything_and_a_shorter_one_does_not_cut_it() -> None:
    """After a 429 the whole lane is still until the time it named."""
    lane = lane_of(*many("a", 1))
    lane.pause(7)
    lane.pause(3)

    assert lane.next(5) == Wait(7)


def test_sends_that_never_leave_pause_the_lane_for_longer_each_time_until_one_does() -> None:
    """100 ms, 200, 400; after a write 100 again."""
    lane = lane_of(*many("a", 9))
    opened, now = [], 0.0
    for number in range(5):
        hold = released(lane, now).hold
        if number == 3:
            lane.written(hold, now)
            lane.answered(hold, now)
        lane.ended(hold, now)
        if number != 3:
            lane.unconnected(hold.released, now)
            opened.append(round(lane.open_from - now, 9))
        now = lane.open_from + 10

    assert opened == [0.1, 0.2, 0.4, 0.1]


@pytest.mark.parametrize("in_flight", [8, 3])
def test_only_so_many_are_under_way(in_flight: int) -> None:
    """Eight, however slow the upstream; the end of one makes room."""
    lane = lane_of(*many("a", 20), policy=LanePolicy(in_flight=in_flight))
    holds = [sent(lane, 2.0 * number) for number in range(in_flight)]

    assert LanePolicy().in_flight == 8
    assert lane.next(100) == Wait(None)
    lane.answered(holds[0], 100)
    lane.ended(holds[0], 100)
    assert isinstance(lane.next(100), Release)
    assert lane.in_flight == in_flight


def test_a_release_names_the_call_whose_turn_it_is_and_those_that_share_its_send() -> None:
    """Merged while merging is on, and not any more once it has ended."""
    calls = [waits("a-0", 1, cap=2), waits("b-0", 2, cap=2), waits("c-0", 3, cap=2), waits("d-0", 4, cap=2)]
    lane = lane_of(*calls)
    together = released(lane, 0)
    lane.merging = False

    assert together.waiting == calls[0]
    assert together.calls == (calls[0], calls[1])
    assert released(lane, 0).calls == (calls[2],)


def test_who_left_or_has_no_time_left_is_not_released() -> None:
    """Also if nobody told the lane that its time was over."""
    lane = lane_of(waits("a-0"), waits("a-1", deadline=5), waits("a-2", deadline=5.1))

    assert lane.withdraw("a-0")
    assert not lane.withdraw("a-0")
    assert [call.call_id for call in released(lane, 5).calls] == ["a-2"]


def test_the_bounds_of_lane_and_caller_hold() -> None:
    """The lane takes so many calls in all and so many of one caller; who leaves makes room."""
    lane = lane_of(*many("a", 2), policy=LanePolicy(depth=3, caller_depth=2))
    of_a, of_b = lane.enter(waits("a-2"), 0), lane.enter(waits("b-0"), 0)
    beyond = lane.enter(waits("b-1"), 0)
    lane.withdraw("a-0")

    assert of_a
    assert isinstance(of_a.error, QueueFull)
    assert of_b is None
    assert beyond
    assert isinstance(beyond.error, QueueFull)
    assert lane.enter(waits("b-1"), 0) is None


@pytest.mark.parametrize(("depth", "most"), [(1, 1), (5, 2), (6, 3)])
def test_jobs_have_half_of_the_places(depth: int, most: int) -> None:
    """Whoever waits itself finds the rest, and may have all; a job's call that leaves makes room for another."""
    lane = lane_of(policy=LanePolicy(depth=depth))
    jobs = [replace(waits(f"a-{number}"), of_job=True) for number in range(most + 1)]
    taken = [lane.enter(job, 0) is None for job in jobs]
    others = [lane.enter(waits(f"b-{number}"), 0) is None for number in range(depth)]
    lane.withdraw("a-0")
    late = lane.check(jobs[-1], 0)
    full = lane.check(waits("c-0"), 0) is not None

    assert taken == [True] * most + [False]
    assert others == [True] * (depth - most) + [False] * most
    assert (late, full) == (None, False)


def test_a_full_queue_says_when_a_place_will_be_free() -> None:
    """With the next turn."""
    lane = Lane(LanePolicy(slots=1, depth=1), 5)
    lane.enter(waits("a-0"), 0)
    rejected = lane.enter(waits("b-0"), 2)

    assert rejected
    assert isinstance(rejected.error, QueueFull)
    assert rejected.error.detail == "too many calls wait for this token"
    assert rejected.error.retry_after == 3


def test_checking_takes_nothing_in() -> None:
    """A check is the same decision without the place."""
    lane = lane_of(policy=LanePolicy(depth=1))

    assert lane.check(waits("a-0"), 0) is None
    assert lane.check(waits("a-0"), 0) is None
    assert len(lane.queue) == 0
    assert lane.enter(waits("a-0"), 0) is None
    assert lane.check(waits("b-0"), 0) is not None


def test_a_rejection_says_what_the_wait_would_be() -> None:
    """Its reason, how long the wait would be, rounded up, and when the same patience would do."""
    lane = lane_of(*many("a", 20))
    lane.guard.answered(0.2, 0)
    rejected = lane.enter(waits("a-late", deadline=4), 0)
    hurried = lane.enter(waits("a-hurried", deadline=2.5), 2)

    assert rejected
    assert isinstance(rejected.error, WaitTooLong)
    assert rejected.error.members["predicted_wait"] == 13
    assert rejected.error.retry_after == pytest.approx(10 * 1.2 + 0.2 - 4)
    assert hurried
    assert hurried.error.retry_after == pytest.approx(10 * 1.2 + 0.2 - 0.5)
    assert rejected.error.detail == "the wait would be 12.2 s, longer than the 4.0 s that the call has left"


def test_a_release_says_which_places_it_took() -> None:
    """So that a turn that is lost can be given back."""
    lane = lane_of(*many("a", 2), *many("b", 1))
    release = released(lane, 10)

    assert release.places == lane.queue.places
    assert len(release.places) == 1
