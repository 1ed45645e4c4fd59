"""What follows from a send's end: for its lane, and for each of the calls that it carried."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.dispatch.fairness import Waiting
from app.dispatch.lane import Lane
from app.dispatch.retry import decide, pause_after
from app.dispatch.sharing import halves, is_divisible, share_of, strangers
from app.dispatch.ticket import Place, Ticket
from app.domain import Accepted, Call, Linked, Outcome, RateLimited, Refused, TokenRejected, Unreachable, new_id

__all__ = ["Conclusion", "Part", "conclude"]

TOKEN_USED_ELSEWHERE = "token-used-elsewhere"  # noqa: S105 - an alert's name
MERGING_ENDED = "merging-ended"
JITTER = random.Random()  # noqa: S311 - spreads load, guards nothing


@dataclass(frozen=True, slots=True)
class Part:
    """A call that queues again, as it will wait; `outcome` is what it got this time."""

    ticket: Ticket
    outcome: Outcome | None
    waiting: Waiting


@dataclass(slots=True)
class Conclusion:
    """What is to be done: calls that have their end, that queue again at once, or after some seconds; an operation that is suspended."""

    settled: list[tuple[Ticket, Outcome]] = field(default_factory=list)
    again: list[Part] = field(default_factory=list)
    later: list[tuple[Ticket, float]] = field(default_factory=list)
    suspended: str | None = None
    alerts: list[str] = field(default_factory=list)


def conclude(lane: Lane, tickets: Sequence[Ticket], outcome: Outcome, now: float, *, written: bool) -> Conclusion:
    """Tell the lane, and decide for each call.

    Args:
        lane: the lane that sent.
        tickets: the calls that the send carried; some may have left meanwhile.
        outcome: how the send ended.
        now: the time, monotonic, in seconds.
        written: whether the request had left.
    """
    conclusion = Conclusion()
    calls = [ticket.call for ticket in tickets]
    _tell(lane, tickets, outcome, now, conclusion)
    for ticket in tickets:
        ticket.last = share_of(outcome, ticket.call, calls)
    if is_divisible(outcome, calls):
        conclusion.again = _apart(tickets, calls, outcome)
        return conclusion
    for ticket in tickets:
        ticket.left += written and not isinstance(outcome, RateLimited)
        _decide(ticket, outcome, now, conclusion)
    return conclusion


def _tell(lane: Lane, tickets: Sequence[Ticket], outcome: Outcome, now: float, conclusion: Conclusion) -> None:
    calls, since = [ticket.call for ticket in tickets], now if tickets[0].released is None else tickets[0].released
    operation = calls[0].operation.id
    match outcome:
        case _ if calls[0].test:
            pass  # what an operator's test finds neither opens nor closes a breaker: it asks for another operation than the callers do
        case TokenRejected():
            conclusion.suspended = operation if lane.refused(operation, now) else None
        case Linked() | Accepted() | Refused(uncertain=False):
            lane.accepted(operation)
        case _:
            for call in calls:
                lane.undecided(operation, call.id)
    if isinstance(outcome, RateLimited):
        lane.pause(now + pause_after(outcome))
        if lane.limited(since, now):
            _alert(lane, TOKEN_USED_ELSEWHERE, conclusion)
    if isinstance(outcome, Unreachable) and not outcome.uncertain:
        lane.unconnected(since, now)
    if lane.merging and calls[0].parameter.coalesce and strangers(outcome, calls):
        lane.merging = False
        _alert(lane, MERGING_ENDED, conclusion)


def _alert(lane: Lane, alert: str, conclusion: Conclusion) -> None:
    lane.alerts.add(alert)
    conclusion.alerts.append(alert)


def _apart(tickets: Sequence[Ticket], calls: Sequence[Call], outcome: Outcome) -> list[Part]:
    """The calls in two halves, each of which shares a send once more, with nobody else."""
    by_call = {ticket.call.id: ticket for ticket in tickets}
    parts = []
    for half in halves(calls):
        group = new_id()
        for call in half:
            ticket = by_call[call.id]
            parts.append(Part(ticket, outcome, replace(ticket.waiting, group=group)))
    return parts


def _decide(ticket: Ticket, outcome: Outcome, now: float, conclusion: Conclusion) -> None:
    own = ticket.last or outcome
    again = decide(outcome, idempotent=ticket.call.operation.idempotent, attempts=ticket.left, jitter=JITTER)
    if again is None or ticket.place is Place.DONE or now + again.after >= ticket.call.deadline:
        conclusion.settled.append((ticket, own))
        return
    ticket.uncertain = ticket.uncertain or outcome.uncertain
    if again.after:
        conclusion.later.append((ticket, again.after))
    else:
        conclusion.again.append(Part(ticket, outcome, ticket.waiting))
