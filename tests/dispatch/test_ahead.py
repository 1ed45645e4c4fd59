"""Sends that are released ahead of their turn, to be put on record and connected, and are written at it."""

from __future__ import annotations

import math

from app.dispatch.lane import Lane, LanePolicy, Release, Wait
from tests.dispatch.stage import waits


def lane_after(*answers: float) -> Lane:
    """A lane whose slots are held by sends that were answered at these times, with more calls waiting."""
    lane = Lane(LanePolicy(), 0)
    for number in range(6):
        lane.queue.add(waits(f"call-{number}"))
    for answered in answers:
        release = lane.next(0)
        assert isinstance(release, Release)
        lane.written(release.hold, 0)
        lane.answered(release.hold, answered)
        lane.ended(release.hold, answered)
    return lane


def test_a_send_is_released_as_long_ahead_of_its_slot_as_asked() -> None:
    """Not sooner; and it may be written when the slot opens."""
    lane = lane_after(0.1, 0.2)
    early = lane.next(1.0499, 0.05)
    release = lane.next(1.05, 0.05)

    assert early == Wait(1.1 - 0.05)
    assert isinstance(release, Release)
    assert lane.opens_for(release.hold) == 1.1


def test_each_of_two_prepared_sends_has_a_slot_of_its_own() -> None:
    """The second is written when the second slot opens, though the first may not be written yet."""
    lane = lane_after(0.1, 0.2)
    first, second, third = (lane.next(1.0, 0.25) for _ in range(3))

    assert isinstance(first, Release)
    assert isinstance(second, Release)
    assert (lane.opens_for(first.hold), lane.opens_for(second.hold)) == (1.1, 1.2)
    assert third == Wait(None)


def test_a_pause_holds_back_a_prepared_send() -> None:
    """A 429 came after it was released and before it was written."""
    lane = lane_after(0.1, 0.2)
    release = lane.next(1.05, 0.05)
    assert isinstance(release, Release)
    lane.pause(5)

    assert lane.opens_for(release.hold) == 5


def test_an_answer_lost_meanwhile_holds_back_a_prepared_send() -> None:
    """The slots that it reckoned with are held once more, so it waits for one of them."""
    lane = Lane(LanePolicy(), 0)
    for number in range(4):
        lane.queue.add(waits(f"call-{number}"))
    slow = []
    for _ in range(2):
        release = lane.next(0)
        assert isinstance(release, Release)
        lane.written(release.hold, 0)
        slow.append(release.hold)
    prepared = lane.next(1.24, 0.05)
    assert isinstance(prepared, Release)
    lane.window.expire(1.26)
    for hold in slow:
        lane.ended(hold, 1.26)

    assert lane.opens_for(prepared.hold) == 1.26 + 1.25


def test_a_send_that_needs_no_turn_may_be_written_at_once() -> None:
    """On an idle lane nothing is waited for."""
    lane = Lane(LanePolicy(), -math.inf)
    lane.queue.add(waits("call"))
    release = lane.next(0, 0.05)

    assert isinstance(release, Release)
    assert lane.opens_for(release.hold) == -math.inf
