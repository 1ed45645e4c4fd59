"""Short forms for tests of the pure core: calls that wait, sends that were made, in simulated time."""

from __future__ import annotations

from app.dispatch.fairness import FairQueue
from app.dispatch.lane import Hold, Lane, LanePolicy, Release, Waiting
from app.domain import Priority

LINK = "link-orders orderIds"
FOREVER = 1_000_000.0


def waits(  # noqa: PLR0913 - one for each field of a waiting call
    call_id: str,
    *ids: int,
    cap: int = 0,
    deadline: float = FOREVER,
    weight: float = 1.0,
    priority: Priority = Priority.INTERACTIVE,
    group: str | None = None,
    subject: str = LINK,
) -> Waiting:
    """A call that waits. Its caller is what stands before the dash in its ID; without IDs it is equal to no other."""
    caller = call_id.partition("-")[0]
    return Waiting(
        call_id, caller, deadline, weight, priority, subject if ids else "", frozenset(ids), cap if ids else 0, group, "link-orders"
    )


def queue_of(*calls: Waiting) -> FairQueue:
    """A queue in which these wait."""
    queue = FairQueue()
    for call in calls:
        queue.add(call)
    return queue


def lane_of(*calls: Waiting, policy: LanePolicy | None = None, open_from: float = 0.0) -> Lane:
    """A lane, not cold, in which these wait; they came at time 0."""
    lane = Lane(policy or LanePolicy(), open_from)
    for call in calls:
        assert lane.enter(call, 0) is None
    return lane


def many(caller: str, count: int) -> list[Waiting]:
    """So many calls of one caller, none equal to another."""
    return [waits(f"{caller}-{number}") for number in range(count)]


def released(lane: Lane, now: float) -> Release:
    """The release that the lane must decide on."""
    decision = lane.next(now)
    assert isinstance(decision, Release), decision
    return decision


def sent(lane: Lane, now: float, *, round_trip: float | None = None, peer: str | None = None) -> Hold:
    """Release one send, written at once and, with a round trip, answered."""
    hold = released(lane, now).hold
    lane.written(hold, now, peer)
    if round_trip is not None:
        lane.answered(hold, now + round_trip)
        lane.ended(hold, now + round_trip)
    return hold


def turns(queue: FairQueue, *, merging: bool = True) -> list[list[str]]:
    """Play the queue through: the IDs of the calls of each send."""
    sends = []
    while len(queue):
        sends.append([call.call_id for call in queue.take(merging=merging)])
    return sends
