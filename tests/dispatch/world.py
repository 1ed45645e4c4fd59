"""A small driver for a lane in simulated time, with an upstream that does as it is told: it checks what it does at every turn."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from app.dispatch.conclusion import Conclusion, Part, conclude
from app.dispatch.lane import Hold, Lane, LanePolicy, Release, Waiting
from app.dispatch.sharing import union
from app.dispatch.ticket import Place, Ticket
from app.domain import Call, Linked, Outcome, Pacing, TokenRejected, new_id
from app.errors import DeadlineExceeded, GatewayError, TokenSuspended

ARRIVES_WITHIN = 0.25
"""How long a request takes to arrive at most under learned pacing, and how long after its abort one may still arrive under any."""
ROUNDING = 1e-9


@dataclass(eq=False)
class Flight:
    """A send under way."""

    tickets: list[Ticket]
    hold: Hold

    @property
    def calls(self) -> list[Call]:
        """The calls that it carries."""
        return [ticket.call for ticket in self.tickets]


@dataclass
class World:
    """One lane, its calls, and the times between which each send may have arrived."""

    policy: LanePolicy
    loop: asyncio.AbstractEventLoop
    ahead: float = 0.0
    now: float = 0.0
    flights: list[Flight] = field(default_factory=list)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    lane: Lane = field(init=False)
    _latest: dict[Hold, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A lane that knows nothing of the past. A proven one believes that it knows its network well, and must not rely on it."""
        self.lane = Lane.cold(self.policy, self.now)
        if self.policy.pacing is Pacing.PROVEN:
            self.lane.guard.answers = 1_000

    def restart(self) -> None:
        """The process ends, with all that waits; what is under way may still arrive."""
        for flight in self.flights:
            self._arrived_by(flight.hold, self.now + ARRIVES_WITHIN)
        self.flights.clear()
        self.tickets.clear()
        self.due.clear()
        self.begin()

    def enter(self, call: Call, waiting: Waiting) -> None:
        """A call arrives."""
        if self.lane.enter(waiting, self.now) is None:
            self.tickets[call.id] = Ticket(call, waiting, self.loop.create_future(), self.leave)
            self.number[call.id] = len(self.number)

    def leave(self, ticket: Ticket) -> None:
        """Its caller hangs up."""
        if ticket.place is not Place.UNDER_WAY:
            self.lane.withdraw(ticket.call.id)
        self._settle(ticket, DeadlineExceeded("the caller left"))

    def timers(self) -> None:
        """Calls whose time is over have their end; those that backed off long enough queue again."""
        for ticket in [ticket for ticket in self.tickets.values() if ticket.call.deadline <= self.now]:
            if ticket.place is not Place.UNDER_WAY:
                self.lane.withdraw(ticket.call.id)
            self._settle(ticket, ticket.last or DeadlineExceeded("too late"))
        for call_id in [call_id for call_id, due in self.due.items() if due <= self.now]:
            del self.due[call_id]
            ticket = self.tickets[call_id]
            self._queue_again([Part(ticket, None, ticket.waiting)])

    def pump(self) -> float | None:
        """Send what the lane says, until it says to wait; until when, where it names a time."""
        while isinstance(decision := self.lane.next(self.now, self.ahead), Release):
            self._start(decision)
        assert all(waiting.deadline > self.now for waiting in self.lane.queue)
        assert decision.until is None or decision.until > self.now
        return decision.until

    def write(self, flight: Flight) -> None:
        """A send's request leaves, if its turn has come. Under learned pacing by another address each: nothing learned is relied upon."""
        if self.lane.opens_for(flight.hold) > self.now:
            return
        self._latest[flight.hold] = math.inf
        near = sum(latest > self.now - self.policy.per + ROUNDING for latest in self._latest.values())
        assert near <= self.policy.slots, f"{near} sends may arrive within {self.policy.per} s"
        learned = self.policy.pacing is Pacing.LEARNED
        self.lane.written(flight.hold, self.now, new_id() if learned else None)
        if learned:
            self._arrived_by(flight.hold, self.now + ARRIVES_WITHIN)

    def answer(self, flight: Flight) -> None:
        """Its status line is read."""
        self.lane.answered(flight.hold, self.now)
        self._arrived_by(flight.hold, self.now)

    def end(self, flight: Flight, outcome: Outcome) -> None:
        """It is over; whatever wasn't answered is aborted now."""
        if flight.hold.answered is None:
            self._arrived_by(flight.hold, self.now + ARRIVES_WITHIN)
        self.flights.remove(flight)
        self.lane.ended(flight.hold, self.now)
        conclusion = conclude(self.lane, flight.tickets, outcome, self.now, written=flight.hold.written is not None)
        self._heed(flight, outcome, conclusion)

    def check(self) -> None:
        """Each call is where its ticket says, once; the lane's own counts agree."""
        under_way = Counter(ticket.call.id for flight in self.flights for ticket in flight.tickets)
        assert all(count == 1 for count in under_way.values())
        for call_id, ticket in self.tickets.items():
            assert not ticket.end.done()
            queued = call_id in self.lane.queue
            assert ticket.place is Place.WAITING if queued else ticket.place is not Place.WAITING or ticket.call.deadline <= self.now
            assert (call_id in under_way) is (ticket.place is Place.UNDER_WAY)
            assert (call_id in self.due) is (ticket.place is Place.BACKING_OFF)
        waiting = list(self.lane.queue)
        assert {call.call_id for call in waiting} <= set(self.tickets)
        assert len(waiting) == len(self.lane.queue)
        assert self.lane.queue.callers == Counter(call.caller_id for call in waiting)
        assert self.lane.in_flight == len(self.flights) <= self.policy.in_flight

    def _start(self, release: Release) -> None:
        tickets = [self.tickets[waiting.call_id] for waiting in release.calls]
        for ticket in tickets:
            assert ticket.place is Place.WAITING
            self._check_order(ticket)
        for ticket in tickets:
            ticket.place = Place.UNDER_WAY
            ticket.attempts += 1
            ticket.released = self.now
        self._check_company(release, tickets)
        self.flights.append(Flight(tickets, release.hold))

    def _check_order(self, ticket: Ticket) -> None:
        """A call that goes for the first time doesn't pass an earlier one of its caller and priority that never went either."""
        waiting = [other for other in self.tickets.values() if other.call.id in self.lane.queue and other.attempts == 0]
        mine = [other for other in waiting if other.waiting.flow == ticket.waiting.flow]
        assert ticket.attempts or all(self.number[other.call.id] > self.number[ticket.call.id] for other in mine)

    def _check_company(self, release: Release, tickets: Sequence[Ticket]) -> None:
        """Calls share a send only if they ask for the same of the same, or may be merged and fit."""
        requests = {waiting.request for waiting in release.calls}
        assert len({ticket.call.parameter for ticket in tickets}) == 1
        assert len({waiting.group for waiting in release.calls}) == 1
        if len(requests) > 1:
            assert self.lane.merging
            assert len(union([ticket.call for ticket in tickets])) <= release.waiting.cap

    def _heed(self, flight: Flight, outcome: Outcome, conclusion: Conclusion) -> None:
        concluded = [ticket for ticket, _ in conclusion.settled] + [part.ticket for part in conclusion.again]
        concluded += [ticket for ticket, _ in conclusion.later]
        assert Counter(map(id, concluded)) == Counter(map(id, flight.tickets))
        for ticket, own in conclusion.settled:
            _check_share(ticket.call, flight.calls, outcome, own)
            self._settle(ticket, own)
        self._queue_again(conclusion.again)
        for ticket, after in conclusion.later:
            ticket.place = Place.BACKING_OFF
            self.due[ticket.call.id] = self.now + after
        if conclusion.suspended:
            assert isinstance(outcome, TokenRejected)
            self._put_out(lambda ticket: ticket.place is not Place.UNDER_WAY)

    def _put_out(self, concerns: Callable[[Ticket], bool]) -> None:
        for ticket in [ticket for ticket in self.tickets.values() if concerns(ticket)]:
            self.lane.withdraw(ticket.call.id)
            self._settle(ticket, TokenSuspended("suspended"))

    def _queue_again(self, parts: Sequence[Part]) -> None:
        for part in reversed([part for part in parts if part.ticket.place is not Place.DONE]):
            part.ticket.place, part.ticket.waiting = Place.WAITING, part.waiting
            self.lane.queue.put_back([part.waiting])

    def _settle(self, ticket: Ticket, result: Outcome | GatewayError) -> None:
        self.tickets.pop(ticket.call.id, None)
        self.due.pop(ticket.call.id, None)
        ticket.settle(result, self.now)

    def _arrived_by(self, hold: Hold, latest: float) -> None:
        if hold in self._latest:
            self._latest[hold] = min(self._latest[hold], latest)


def _check_share(call: Call, calls: Sequence[Call], outcome: Outcome, own: Outcome) -> None:
    """A call's own part of an answer: of its IDs, those that the answer lists; all of it where nothing else was asked for."""
    if not isinstance(outcome, Linked):
        assert own == outcome
        return
    alone = all(frozenset(other.ids) == frozenset(call.ids) for other in calls)
    assert own == (outcome if alone else replace(outcome, order_ids=tuple(one for one in outcome.order_ids if one in call.ids)))
