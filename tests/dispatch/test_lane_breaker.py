"""The lane's breakers, by example: which calls are held back, and what closes them."""

from __future__ import annotations

from app.dispatch.lane import Wait
from app.errors import TokenSuspended
from tests.dispatch.stage import lane_of, waits


def test_a_suspended_operation_takes_one_call_to_probe() -> None:
    """The others are told when they may come again; one that left in vain makes room for the next."""
    lane = lane_of()
    opened = [lane.refused("link-orders", 0) for _ in range(3)]
    early, probe = lane.enter(waits("a-0"), 40), lane.enter(waits("a-1"), 60)
    second = lane.check(waits("b-0"), 60)
    lane.withdraw("a-1")

    assert opened == [False, False, True]
    assert early
    assert isinstance(early.error, TokenSuspended)
    assert early.error.detail == "Flxpoint refused this token for this operation several times in a row; nothing was sent"
    assert early.error.retry_after == 20
    assert probe is None
    assert second
    assert second.error.retry_after is None
    assert lane.enter(waits("b-1", deadline=70), 60) is None
    assert lane.check(waits("b-2"), 61) is not None
    assert lane.next(70) == Wait(None)
    assert lane.check(waits("b-2"), 70) is None


def test_a_breaker_closes_by_an_acceptance_or_by_hand() -> None:
    """Of one operation by its acceptance, of all by hand."""
    lane = lane_of()
    for operation in ("link-orders", "other", "third", "fourth"):
        for _ in range(3):
            lane.refused(operation, 0)
    lane.accepted("link-orders")
    lane.undecided("never seen", "a-0")

    assert lane.check(waits("a-0"), 0) is None
    assert sorted(lane.breakers) == ["fourth", "other", "third"]
    lane.resume()
    assert lane.breakers == {}


def test_a_probe_whose_end_told_nothing_makes_room_for_the_next() -> None:
    """A time-out is no answer to the question."""
    lane = lane_of()
    for _ in range(3):
        lane.refused("link-orders", 0)
    lane.enter(waits("a-0"), 60)
    lane.undecided("link-orders", "another")
    held = lane.check(waits("b-0"), 60)
    lane.undecided("link-orders", "a-0")

    assert held
    assert isinstance(held.error, TokenSuspended)
    assert lane.check(waits("b-0"), 60) is None


def test_a_call_that_had_its_turn_in_vain_queues_again_only_as_the_probe() -> None:
    """While the breaker is open and it isn't time to probe, it doesn't."""
    lane = lane_of()
    for _ in range(3):
        lane.refused("link-orders", 0)

    assert not lane.put_back(waits("a-0"), 59)
    assert lane.put_back(waits("a-0"), 60)
    assert not lane.put_back(waits("a-1"), 61)
    assert [waiting.call_id for waiting in lane.queue] == ["a-0"]


def test_a_value_that_is_new_to_its_token_begins_with_closed_breakers() -> None:
    """A rotation ends a suspension, whichever way: of the lane that is left, and of the one that goes on."""
    left, other = lane_of(), lane_of()
    for lane in (left, other):
        for _ in range(3):
            lane.refused("link-orders", 0)
    other.take_over(left.hand_over())

    assert left.breakers == other.breakers == {}
