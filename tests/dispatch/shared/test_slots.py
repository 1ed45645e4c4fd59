"""What a replica tells of its sends, in simulated time."""

from __future__ import annotations

from app.dispatch.lane import LanePolicy
from app.dispatch.shared.lane import SharedLane
from app.dispatch.shared.slots import Claim
from app.dispatch.window import NEVER


def begun(claim: Claim) -> SharedLane:
    """A lane with one claim, which has a call to send no more."""
    lane = SharedLane(LanePolicy(), -NEVER)
    lane.window.begin(claim)
    lane.in_flight += 1
    return lane


def told(lane: SharedLane, now: float) -> list[dict[str, object]]:
    """What is told at that time, and taken note of."""
    telling = lane.window.telling(now)
    lane.window.told(telling)
    return [members for _, members in telling]


def test_a_send_in_time_is_told_with_its_answer() -> None:
    """Its write alone is no news; the answer is told a little later, with the end if that comes soon."""
    claim = Claim(0, id="c", usable_until=0.1)
    lane = begun(claim)
    lane.written(claim, 0.05, "peer")
    assert lane.window.due(0.05) == NEVER
    lane.answered(claim, 0.2)
    assert 0.2 < lane.window.due(0.2) < 0.3
    lane.ended(claim, 0.2)

    assert told(lane, 0.3) == [{"id": "c", "ended": True, "back": False, "peer": "peer", "answered": 100_000, "trip": 150_000}]
    assert lane.window.idle(0.3)


def test_a_write_that_came_too_late_is_told_at_once() -> None:
    """As one that was aborted then, whose slot may be another's; its answer is told as any."""
    claim = Claim(0, id="c", usable_until=0.1)
    lane = begun(claim)
    lane.written(claim, 5.0, None)
    assert lane.window.due(5.0) == 5.0
    assert told(lane, 5.1) == [{"id": "c", "ended": False, "back": False, "lost": 100_000}]
    assert lane.window.due(5.1) == NEVER
    lane.answered(claim, 5.2)
    lane.ended(claim, 5.2)

    assert [set(members) for members in told(lane, 5.2)] == [{"id", "ended", "back", "answered", "trip"}]


def test_what_came_while_valkey_was_told_is_told_next() -> None:
    """A connection that was lost meanwhile isn't taken for the one that was told of."""
    claim = Claim(0, id="c", usable_until=0.1)
    lane = begun(claim)
    lane.written(claim, 5.0, "peer")
    telling = lane.window.telling(5.1)
    lane.ended(claim, 5.2)
    lane.window.told(telling)

    assert told(lane, 5.3) == [{"id": "c", "ended": True, "back": False, "lost": 100_000}]


def test_an_unused_turn_is_given_back() -> None:
    """Until that is told, Valkey doesn't know, and the lane isn't idle."""
    claim = Claim(0, id="c", usable_until=0.1)
    lane = begun(claim)
    assert lane.window.flying() == ["c"]
    lane.ended(claim, 0.05)
    assert lane.window.flying() == []
    assert not lane.window.idle(0.05)

    assert told(lane, 0.05) == [{"id": "c", "ended": True, "back": True}]


def test_what_waits_elsewhere_counts_in_the_quota_and_in_what_is_foretold() -> None:
    """Free slots are theirs first; once they had the time to go, and nothing newer is known, they count no more."""
    lane = SharedLane(LanePolicy(), -NEVER)
    reply = {"slots": [0, 0], "answers": 0, "margin": 250_000, "open": 0, "waiting_elsewhere": 3, "before_newcomer": 2}
    lane.adopt_reply(reply, 10.0)

    assert [lane.state(now).remaining for now in (10.0, 11.0, 12.0)] == [0, 1, 2]
    assert lane.newcomers_wait(10.0) >= 1


def test_a_send_without_an_answer_is_lost_when_it_ends() -> None:
    """Its connection was aborted then."""
    claim = Claim(0, id="c", usable_until=0.1)
    lane = begun(claim)
    lane.written(claim, 0.05, None)
    lane.ended(claim, 3.0)

    assert told(lane, 3.0) == [{"id": "c", "ended": True, "back": False, "lost": 0}]
