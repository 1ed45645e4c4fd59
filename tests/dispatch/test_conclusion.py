"""What follows from a send's end, by example: for its lane, and for each of its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.dispatch.conclusion import Conclusion, conclude
from app.dispatch.fairness import Waiting
from app.dispatch.lane import Lane, LanePolicy
from app.dispatch.ticket import Place, Ticket
from app.domain import Call, Garbled, Linked, Outcome, Parameter, RateLimited, Refused, TimedOut, TokenRejected, Unreachable
from tests.calls import LINK, make_call

MERGED = Parameter("orderIds", 50, coalesce=True)
LOST = Unreachable("reset", uncertain=True)


class Stage:
    """A lane, and tickets of calls that are under way in it."""

    def __init__(self) -> None:
        self.lane = Lane(LanePolicy(), 0)
        self.loop = asyncio.new_event_loop()

    def ticket(self, *ids: int, idempotent: bool = True, deadline: float = 60.0) -> Ticket:
        """The ticket of a call that is under way."""
        operation = replace(LINK, idempotent=idempotent)
        call = replace(make_call(*ids, deadline=deadline), operation=operation, parameter=MERGED)
        waiting = Waiting(call.id, call.caller.id, deadline, ids=frozenset(ids), cap=50, subject="s", operation=operation.id)
        return Ticket(call, waiting, self.loop.create_future(), lambda _: None, Place.UNDER_WAY, attempts=1)

    def end(self, outcome: Outcome, *tickets: Ticket, now: float = 10.0, written: bool = True) -> Conclusion:
        """The conclusion of the send that carried these."""
        return conclude(self.lane, tickets, outcome, now, written=written)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage whose loop is closed after the test."""
    made = Stage()
    yield made
    made.loop.close()


def calls_of(conclusion: Conclusion) -> list[Call]:
    """The calls that queue again at once."""
    return [part.ticket.call for part in conclusion.again]


def test_each_call_of_an_answered_send_is_settled_with_its_share(stage: Stage) -> None:
    """And nothing follows for anybody else."""
    first, second = stage.ticket(1, 2), stage.ticket(2, 3)
    conclusion = stage.end(Linked((3, 2)), first, second)

    assert conclusion == Conclusion(settled=[(first, Linked((2,))), (second, Linked((3, 2)))])
    assert (first.left, second.left) == (1, 1)
    assert stage.lane.open_from == 0


def test_a_429_pauses_the_lane_and_costs_no_attempt(stage: Stage) -> None:
    """All its calls queue again at once, and wait with the lane; the guard is told."""
    first, second = stage.ticket(1), stage.ticket(2)
    conclusion = stage.end(RateLimited(7.0), first, second)

    assert stage.lane.open_from == 17
    assert stage.lane.guard.margin == 0.5
    assert [part.ticket for part in conclusion.again] == [first, second]
    assert conclusion.again[0].waiting is first.waiting
    assert conclusion.again[0].outcome == first.last == RateLimited(7.0)
    assert (first.left, first.uncertain, conclusion.settled, conclusion.alerts) == (0, False, [], [])


def test_429s_that_go_on_raise_an_alert(stage: Stage) -> None:
    """Somebody else uses the token."""
    quiet = stage.end(RateLimited(None), stage.ticket(1))
    loud = stage.end(RateLimited(None), stage.ticket(1), now=20)

    assert quiet.alerts == []
    assert loud.alerts == ["token-used-elsewhere"]
    assert stage.lane.alerts == {"token-used-elsewhere"}


def test_429s_of_sends_that_were_under_way_together_are_one(stage: Stage) -> None:
    """They were released on the same trust; what they got proves nothing more than the first of them."""
    tickets = [stage.ticket(number) for number in range(1, 5)]
    for ticket in tickets:
        ticket.released = 9.0
    ends = [stage.end(RateLimited(None), ticket, now=10 + number) for number, ticket in enumerate(tickets)]

    assert [end.alerts for end in ends] == [[]] * 4
    assert stage.lane.guard.margin == 0.5


def test_a_429_of_a_send_that_was_released_as_another_came_proves_nothing_new(stage: Stage) -> None:
    """Its release didn't know of the other yet, in that very instant either; a later one's did."""
    guessed = [stage.lane.limited(released=released, now=now) for released, now in ((1, 2), (2, 3), (3.5, 4))]

    assert guessed == [False, False, True]
    assert stage.lane.guard.margin == 1.0


def test_sends_that_failed_together_to_connect_pause_the_lane_once(stage: Stage) -> None:
    """Also one that was released in the very instant in which the first failed."""
    pauses = []
    for released, now in ((0.5, 1.0), (1.0, 1.05), (1.06, 2.0)):
        stage.lane.unconnected(released, now)
        pauses.append(round(stage.lane.open_from, 9))

    assert pauses == [1.1, 1.1, 2.2]


def test_an_operators_test_neither_opens_nor_closes_a_breaker(stage: Stage) -> None:
    """What it finds is about another operation than the callers'."""
    tickets = [stage.ticket(number) for number in range(1, 5)]
    for ticket in tickets:
        ticket.call = replace(ticket.call, test=True)
    refused = [stage.end(TokenRejected(401, ""), ticket) for ticket in tickets]
    for _ in range(3):
        stage.lane.refused(LINK.id, 10)
    stage.end(Linked((1,)), tickets[0])

    assert [one.suspended for one in refused] == [None] * 4
    assert stage.lane.breakers[LINK.id].open


def test_what_never_left_pauses_the_lane_and_queues_again(stage: Stage) -> None:
    """Without an attempt or any doubt, idempotent or not."""
    ticket = stage.ticket(1, idempotent=False)
    conclusion = stage.end(Unreachable("no route", uncertain=False), ticket, written=False)

    assert calls_of(conclusion) == [ticket.call]
    assert (ticket.left, ticket.uncertain) == (0, False)
    assert stage.lane.open_from == 10.1


@pytest.mark.parametrize("outcome", [LOST, TimedOut(""), Refused(503, "")])
def test_a_lost_idempotent_call_goes_again_after_a_while_and_is_uncertain(stage: Stage, outcome: Outcome) -> None:
    """Twice at most; then it is settled with what it got."""
    ticket = stage.ticket(1)
    ends = [stage.end(outcome, ticket) for _ in range(3)]

    assert [[at for at, _ in end.later] for end in ends] == [[ticket], [ticket], []]
    assert 0 <= ends[0].later[0][1] <= 0.5
    assert ends[2].settled == [(ticket, outcome)]
    assert (ticket.left, ticket.uncertain) == (3, True)
    assert stage.lane.open_from == 0


def test_a_call_that_must_not_be_repeated_is_settled(stage: Stage) -> None:
    """It isn't idempotent; that its result isn't known, its own outcome says."""
    ticket = stage.ticket(1, idempotent=False)
    conclusion = stage.end(LOST, ticket)

    assert conclusion.settled == [(ticket, LOST)]
    assert not ticket.uncertain


def test_nothing_is_sent_again_after_the_deadline(stage: Stage) -> None:
    """A call that couldn't have another turn in time is settled with what it got, to the very moment."""
    late, early = stage.ticket(1, deadline=10), stage.ticket(2, deadline=10.01)
    conclusion = stage.end(RateLimited(1.0), late, early)

    assert conclusion.settled == [(late, RateLimited(1.0))]
    assert calls_of(conclusion) == [early.call]


def test_a_back_off_that_would_end_after_the_deadline_is_not_begun(stage: Stage) -> None:
    """The caller knows at once."""
    ticket = stage.ticket(1, deadline=10.000001)
    conclusion = stage.end(TimedOut("late"), ticket)

    assert conclusion.settled == [(ticket, TimedOut("late"))]


def test_a_call_that_left_is_not_sent_again(stage: Stage) -> None:
    """Nobody waits for it."""
    gone, there = stage.ticket(1), stage.ticket(2)
    gone.place = Place.DONE
    conclusion = stage.end(RateLimited(1.0), gone, there)

    assert calls_of(conclusion) == [there.call]
    assert conclusion.settled == [(gone, RateLimited(1.0))]


def test_a_merged_send_that_was_refused_goes_again_in_halves(stage: Stage) -> None:
    """Each half a group of its own, in order, until the bad call stands alone."""
    tickets = [stage.ticket(number) for number in range(1, 6)]
    conclusion = stage.end(Refused(400, "bad"), *tickets)
    groups = [part.waiting.group for part in conclusion.again]

    assert [part.ticket for part in conclusion.again] == tickets
    assert groups[0] == groups[1] == groups[2] != groups[3] == groups[4]
    assert None not in groups
    assert {part.outcome for part in conclusion.again} == {Refused(400, "bad")}
    assert conclusion.settled == []
    assert [part.waiting.ids for part in conclusion.again] == [ticket.waiting.ids for ticket in tickets]


def test_a_bad_call_alone_is_settled_with_its_refusal(stage: Stage) -> None:
    """As are equal calls that share it."""
    first, second = stage.ticket(1), stage.ticket(1)
    conclusion = stage.end(Refused(422, "bad"), first, second)

    assert conclusion.settled == [(first, Refused(422, "bad")), (second, Refused(422, "bad"))]


def test_the_third_refusal_of_the_token_suspends_the_operation(stage: Stage) -> None:
    """Its calls are settled with what the upstream said, never halved."""
    ends = [stage.end(TokenRejected(status, ""), stage.ticket(1), stage.ticket(2)) for status in (401, 403, 401)]

    assert [end.suspended for end in ends] == [None, None, "link-orders"]
    assert [outcome for _, outcome in ends[2].settled] == [TokenRejected(401, "")] * 2


@pytest.mark.parametrize("outcome", [Linked((1,)), Refused(400, ""), Refused(404, "")])
def test_an_answer_that_concerns_the_call_closes_the_breaker(stage: Stage, outcome: Outcome) -> None:
    """The token was taken."""
    for _ in range(3):
        stage.end(TokenRejected(401, ""), stage.ticket(1))
    stage.end(outcome, stage.ticket(1))

    assert stage.lane.breakers == {}


@pytest.mark.parametrize(
    "outcome", [LOST, TimedOut(""), RateLimited(1.0), Refused(500, ""), Garbled("", 200), Unreachable("", uncertain=False)]
)
def test_an_end_that_tells_nothing_of_the_token_frees_the_probes_place(stage: Stage, outcome: Outcome) -> None:
    """Whichever of the send's calls it was; the breaker stays open."""
    for _ in range(3):
        stage.end(TokenRejected(401, ""), stage.ticket(1), now=0)
    breaker = stage.lane.breakers["link-orders"]
    first, probe = stage.ticket(1), stage.ticket(1)
    breaker.admit(probe.call.id)
    stage.end(outcome, first, probe)

    assert breaker.open
    assert breaker.probe is None


def test_a_stranger_in_an_answer_ends_merging_with_an_alert(stage: Stage) -> None:
    """Once; each call still gets its own share."""
    first, second = stage.ticket(1), stage.ticket(2)
    once, twice = stage.end(Linked((1, 9)), first, second), stage.end(Linked((9,)), first)

    assert once.settled == [(first, Linked((1,))), (second, Linked(()))]
    assert (once.alerts, twice.alerts) == (["merging-ended"], [])
    assert stage.lane.merging is False
    assert stage.lane.alerts == {"merging-ended"}


def test_a_stranger_means_nothing_where_results_can_not_be_told_apart(stage: Stage) -> None:
    """Such a parameter's answer lists IDs of another sort."""
    ticket = stage.ticket(1)
    ticket.call = replace(ticket.call, parameter=Parameter("orderItemIds", 50))
    conclusion = stage.end(Linked((9,)), ticket)

    assert stage.lane.merging
    assert conclusion == Conclusion(settled=[(ticket, Linked((9,)))])
