"""The driver: runs the lanes on the event loop. It holds no rule; each lane decides, the driver carries out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from app.dispatch.conclusion import Conclusion, Part, conclude
from app.dispatch.fairness import Waiting
from app.dispatch.lane import Hold, Lane, LanePolicy, LaneState, Release
from app.dispatch.report import LaneReport, report_of
from app.dispatch.shared import SharedTurns
from app.dispatch.sharing import union
from app.dispatch.ticket import Flight, Place, Ticket
from app.dispatch.track import FlightStamps, Track
from app.domain import Call, Outcome, Priority, Send, Stamps, TokenRef, TurnLost
from app.errors import (
    AuditUnavailable,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    PacingUnavailable,
    ShuttingDown,
    TokenSuspended,
    TokenUnavailable,
    WaitTooLong,
)

__all__ = ["Dispatcher", "Sender"]

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """What carries a send out: puts it on record, makes the request, and tells `stamps` of the write and the answer."""

    def refusal(self, call: Call) -> GatewayError | None:
        """Why a call whose turn has come may not be sent after all; None where it may."""

    def __call__(self, send: Send, stamps: Stamps) -> Awaitable[Outcome]:
        """Carry it out.

        Raises:
            TurnLost, GatewayError: it was not sent.
        """


class Dispatcher:
    """All lanes of this process.

    Args:
        clock: the monotonic clock, in seconds.
        sender: carries sends out.
        depth: waiting calls a lane, at most.
        caller_depth: waiting calls of one caller in a lane, at most.
        coalesce: whether calls are merged where the catalogue says that their results can be told apart.
        turns: where turns are taken that other processes take too; None where there are none.
    """

    def __init__(  # noqa: PLR0913 - the bounds are settings of their own
        self,
        clock: Callable[[], float],
        sender: Sender,
        *,
        depth: int = 1_000,
        caller_depth: int = 200,
        coalesce: bool = False,
        turns: SharedTurns | None = None,
    ) -> None:
        self._clock = clock
        self._sender = sender
        self._depth = depth
        self._caller_depth = caller_depth
        self._coalesce = coalesce
        self._turns = turns
        self._tracks: dict[str, Track] = {}
        self._lane_of: dict[str, str] = {}
        self._tickets: dict[str, Ticket] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def now(self) -> float:
        """The time, monotonic, in seconds."""
        return self._clock()

    @property
    def reachable(self) -> bool:
        """Whether it can be found out whose turn it is."""
        return self._turns is None or self._turns.reachable

    def is_lane_of(self, track: Track, token_id: str) -> bool:
        """Whether a lane is still that of a token, and the token is to be used."""
        return track.token.enabled and self._lane_of.get(token_id) == track.key

    def know(self, tokens: Iterable[TokenRef], revision: int = 0) -> None:
        """Take note of the tokens there are, as of the database's revision of that number.

        A lane belongs to a token's value, and begins cold when that value is first seen.

        Calls that wait for a token that was rotated go over to its new value's lane and keep their places; those for a token that is
        disabled or gone are put out.
        """
        now, known = self._clock(), {token.id: token for token in tokens}
        self._put_out_for(lambda call: (token := known.get(call.token.id)) is None or not token.enabled, _token_unusable())
        moved = {token_id: key for token_id, key in self._lane_of.items() if token_id in known and known[token_id].lane != key}
        queues = {token_id: self._tracks[key].lane.hand_over() for token_id, key in moved.items()}
        for token in known.values():
            self._know(token, revision, now)
            if token.id in queues:
                self._tracks[token.lane].lane.take_over(queues[token.id])
        self._lane_of = {token.id: token.lane for token in known.values()}
        self._forget_unused(now)
        self._go_on(self._tracks.values())

    def check(self, call: Call) -> bool:
        """Refuse a call that couldn't be taken in, before anything is written down for it.

        Returns:
            Whether it would be sent at once.

        Raises:
            QueueFull, WaitTooLong, TokenSuspended, ShuttingDown, TokenUnavailable
        """
        self._refuse_if_closed()
        lane, now = self._usable_track(call.token.id).lane, self._clock()
        rejected = lane.check(self._waiting(call), now)
        if rejected:
            raise rejected.error
        return lane.state(now).remaining > 0

    def enter(self, call: Call) -> Ticket:
        """Take a call in; its ticket tells how it ends.

        Raises:
            QueueFull, WaitTooLong, TokenSuspended, ShuttingDown, TokenUnavailable: it was not taken in.
        """
        self._refuse_if_closed()
        track, now, loop = self._usable_track(call.token.id), self._clock(), asyncio.get_running_loop()
        waiting = self._waiting(call)
        rejected = track.lane.enter(waiting, now)
        if rejected:
            raise rejected.error
        ticket = Ticket(call, waiting, loop.create_future(), self._leave)
        ticket.timer = loop.call_later(max(0.0, call.deadline - now), self._run_out, ticket)
        self._tickets[call.id] = ticket
        self.pump(track)
        return ticket

    def is_waiting(self, call_id: str) -> bool:
        """Whether a call is here and nothing of it was sent, nor will be if it leaves now."""
        ticket = self._tickets.get(call_id)
        return ticket is not None and not (ticket.may_be_sent or ticket.left or ticket.uncertain)

    def state(self, token_id: str) -> LaneState | None:
        """The quota of a token's lane as of now; None where the token is gone."""
        track = self._find(token_id)
        return track.lane.state(self._clock()) if track else None

    def wait_behind_interactive(self, token_id: str, operation: str, sends: int) -> float | None:
        """How long, in seconds from now, until the last of so many sends has its answer, if they go after the interactive calls that wait.

        None where nobody can tell: the token is gone, disabled, or suspended for the operation.
        """
        track = self._find(token_id)
        if track is None or not track.token.enabled:
            return None
        breaker = track.lane.breakers.get(operation)
        if breaker and breaker.open:
            return None
        ahead = sum(waiting.priority is Priority.INTERACTIVE for waiting in track.lane.queue)
        return track.lane.wait_after(max(0, ahead + sends - 1), self._clock())

    async def look(self) -> None:
        """Find out how lanes stand that other processes use too, where that isn't known; what can't be found out stays as it was."""
        if self._turns:
            await self._turns.look()

    def reports(self) -> Iterator[LaneReport]:
        """Every token's lane as operators see it, by the tokens' names, each as of the moment when it is asked for.

        With many calls waiting a report takes milliseconds, so let others run in between.
        """
        for token_id in sorted(self._lane_of, key=lambda token_id: self._tracks[self._lane_of[token_id]].token.name):
            track = self._find(token_id)
            if track:
                callers = [ticket.call.caller for waiting in track.lane.queue if (ticket := self._tickets.get(waiting.call_id))]
                names = {caller.id: caller.name for caller in callers}
                yield report_of(track.token, track.lane, names, self._clock(), merging=self._coalesce)

    def resume(self, token_id: str) -> None:
        """Close the breakers of a token's lane.

        Raises:
            TokenUnavailable: the token is gone.
        """
        track = self._track(token_id)
        track.lane.resume()
        self.pump(track)

    def close(self) -> None:
        """Take in nothing more, and put out every call that still waits, unsent."""
        self._closed = True
        self._put_out_for(lambda _: True, _shutting_down())

    async def finish(self) -> None:
        """Wait for the sends under way, and have other processes know how they went."""
        while self._sending:
            await asyncio.wait(self._sending)
        if self._turns:
            await self._turns.finish()

    def pump(self, track: Track) -> None:
        """Do what the lane says, until it says to wait."""
        if track.turns:
            track.turns.wake()
            return
        now = self._clock()
        if self._closed:
            track.wake(None, now, self)
            return
        while isinstance(decision := track.lane.next(now, track.ahead), Release):
            self._start(track, decision)
            now = self._clock()
        track.wake(decision.until, now, self)

    def ahead(self, key: str) -> float:
        """How long before its slot opens a send of this lane is to be released, in seconds."""
        return self._tracks[key].ahead

    def release(self, key: str, release: Release) -> None:
        """Send these calls: their turn was taken."""
        self._start(self._tracks[key], release)

    def put_out_unpaced(self, key: str) -> None:
        """Nobody can say when anything may be sent: put out what waits in the lane."""
        lane = self._tracks[key].lane
        self._put_out(list(lane.queue), lane, _unpaced())

    def put_out_hopeless(self, key: str) -> None:
        """The lane pauses for longer than was known: tell the calls that have less time."""
        self._put_out_hopeless(self._tracks[key])

    def put_out_suspended(self, key: str, operations: Iterable[str]) -> None:
        """Other processes found that the upstream refuses the token for these operations."""
        for operation in operations:
            self._put_out_operation(self._tracks[key], operation)

    def put_out_late(self, key: str, call_id: str, wait: float) -> None:
        """With what waits in other processes, a call would have its answer in so many seconds only."""
        track = self._tracks[key]
        waiting = self._tickets[call_id].waiting
        left = max(0.0, waiting.deadline - self._clock())
        detail = f"the wait would be {wait:.1f} s, longer than the {left:.1f} s that the call has left"
        self._put_out([waiting], track.lane, WaitTooLong(detail, retry_after=wait - left, predicted_wait=math.ceil(wait)))

    def alert(self, key: str, alert: str) -> None:
        """The lane needs attention."""
        track = self._tracks[key]
        track.lane.alerts.add(alert)
        log.error("a lane needs attention", token=track.token.name, alert=alert)

    def _know(self, token: TokenRef, revision: int, now: float) -> None:
        bounds = LanePolicy.of(token.rate, token.burst, token.pacing, depth=self._depth, caller_depth=self._caller_depth)
        policy = replace(bounds, revision=revision)
        track = self._tracks.get(token.lane)
        if track is None:
            self._tracks[token.lane] = self._new_track(token, policy, now)
        else:
            track.token = token
            track.lane.adopt(policy)

    def _new_track(self, token: TokenRef, policy: LanePolicy, now: float) -> Track:
        if self._turns is None:
            return Track(token.lane, Lane.cold(policy, now), token)
        lane = self._turns.lane(policy)
        track = Track(token.lane, lane, token)
        track.turns = self._turns.open(token.lane, lane, self)
        return track

    def _forget_unused(self, now: float) -> None:
        in_use = set(self._lane_of.values())
        for key, track in list(self._tracks.items()):
            if key in in_use or not track.lane.idle(now) or (track.turns and track.turns.is_busy):
                continue
            del self._tracks[key]
            if self._turns:
                self._turns.close(key)

    def _find(self, token_id: str) -> Track | None:
        return self._tracks.get(self._lane_of.get(token_id, ""))

    def _track(self, token_id: str) -> Track:
        track = self._find(token_id)
        if track is None:
            raise _token_unusable()
        return track

    def _usable_track(self, token_id: str) -> Track:
        track = self._track(token_id)
        if not track.token.enabled:
            raise _token_unusable()
        return track

    def _waiting(self, call: Call) -> Waiting:
        """The call as its lane knows it."""
        parameter = call.parameter
        return Waiting(
            call.id,
            call.caller.id,
            call.deadline,
            weight=call.caller.weight,
            priority=call.priority,
            subject="" if call.test else f"{call.operation.id} {parameter.name}",
            ids=frozenset(call.ids),
            cap=parameter.max_items if self._coalesce and parameter.coalesce else 0,
            operation="" if call.test else call.operation.id,
            arrived=call.arrived,
            of_job=call.of_job,
        )

    def _start(self, track: Track, release: Release) -> None:
        tickets = [ticket for waiting in release.calls if (ticket := self._admitted(self._tickets[waiting.call_id], track.lane))]
        if not tickets:
            track.lane.ended(release.hold, self._clock())
            return
        calls = tuple(ticket.call for ticket in tickets)
        send = Send(attempt=tickets[0].attempts + 1, lane=track.key, ids=union(calls), calls=calls, released=release.hold.released)
        flight = Flight(tickets)
        for ticket in tickets:
            ticket.take_off(flight, send.id, send.released)
        give_back = partial(track.lane.queue.restore, release.places)
        # In a context of its own: whoever's request made the lane go on isn't this send's.
        task = asyncio.get_running_loop().create_task(self._carry_out(track, flight, send, release.hold, give_back), context=Context())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _admitted(self, ticket: Ticket, lane: Lane) -> Ticket | None:
        refusal = self._sender.refusal(ticket.call)
        if refusal is None:
            return ticket
        lane.undecided(ticket.call.operation.id, ticket.call.id)
        self._settle(ticket, refusal)
        return None

    async def _carry_out(self, track: Track, flight: Flight, send: Send, hold: Hold, give_back: Callable[[], None]) -> None:
        outcome: Outcome | GatewayError | TurnLost | None = None
        try:
            outcome = await self._sender(send, FlightStamps(self, track, flight, hold))
        except (GatewayError, TurnLost) as refused:
            outcome = refused
        except Exception:
            log.exception("a send failed by a defect", request_id=send.calls[0].request_id, send_id=send.id)
            outcome = InternalError("the gateway failed while it sent the call", uncertain=hold.written is not None)
        finally:
            # Also when cancelled: a slot that is never given back would stop the lane.
            track.lane.ended(hold, self._clock())
            if isinstance(outcome, TurnLost):
                again = self._lose_turn(track, flight.tickets)
                give_back()
            else:
                flight.depart()
                again = self._conclude(track, flight.tickets, outcome or _cut_short(hold), hold)
            self._go_on({track, *again})

    def _conclude(self, track: Track, tickets: Sequence[Ticket], outcome: Outcome | GatewayError, hold: Hold) -> set[Track]:
        if isinstance(outcome, GatewayError):
            for ticket in tickets:
                track.lane.undecided(ticket.call.operation.id, ticket.call.id)
                if isinstance(outcome, AuditUnavailable):
                    # The send isn't on record, so that there was none.
                    ticket.lose_turn()
                self._settle(ticket, outcome)
            return set()
        conclusion = conclude(track.lane, tickets, outcome, self._clock(), written=hold.written is not None)
        return self._heed(track, conclusion)

    def _lose_turn(self, track: Track, tickets: Sequence[Ticket]) -> set[Track]:
        """Nothing was sent: the calls go back to where they were."""
        for ticket in tickets:
            track.lane.undecided(ticket.call.operation.id, ticket.call.id)
            if ticket.place is not Place.DONE:
                ticket.lose_turn()
        return self._queue_again([Part(ticket, None, ticket.waiting) for ticket in tickets])

    def _heed(self, track: Track, conclusion: Conclusion) -> set[Track]:
        for alert in conclusion.alerts:
            log.error("a lane needs attention", token=track.token.name, alert=alert)
        for ticket, outcome in conclusion.settled:
            self._settle(ticket, outcome)
        again = self._queue_again(conclusion.again)
        for ticket, after in conclusion.later:
            ticket.place = Place.BACKING_OFF
            ticket.back_off = asyncio.get_running_loop().call_later(after, self._back_again, ticket)
        if conclusion.suspended:
            self._put_out_operation(track, conclusion.suspended)
        return again

    def _put_out_operation(self, track: Track, operation: str) -> None:
        """Put out, unsent, the calls of an operation whose breaker is open."""
        error = _suspended(track.lane.breakers[operation].retry_after(self._clock()))
        self._put_out([waiting for waiting in track.lane.queue if waiting.operation == operation], track.lane, error)

    def _queue_again(self, parts: Sequence[Part]) -> set[Track]:
        """Put calls back, before their callers' later ones; those that have left since, or can't go any more, have their end.

        Returns:
            The lanes that have work again, to be pumped once all is in its place.
        """
        tracks = set()
        for part in reversed([part for part in parts if part.ticket.place is not Place.DONE]):
            ticket = part.ticket
            track = self._find(ticket.call.token.id)
            if self._closed or track is None or not track.token.enabled:
                self._settle(ticket, ticket.last or (_shutting_down() if self._closed else _token_unusable()))
                continue
            ticket.place, ticket.waiting = Place.WAITING, part.waiting
            if track.lane.put_back(part.waiting, self._clock()):
                tracks.add(track)
            else:
                self._settle(ticket, ticket.last or _suspended(None))
        return tracks

    def _go_on(self, tracks: Iterable[Track]) -> None:
        for track in tracks:
            self._put_out_hopeless(track)
            self.pump(track)

    def _back_again(self, ticket: Ticket) -> None:
        """Its back-off is over."""
        self._go_on(self._queue_again([Part(ticket, None, ticket.waiting)]))

    def _put_out_for(self, concerns: Callable[[Call], bool], error: GatewayError) -> None:
        """Put out, unsent, the calls of all lanes that wait or back off and are concerned."""
        places = (Place.WAITING, Place.BACKING_OFF)
        for ticket in [ticket for ticket in self._tickets.values() if ticket.place in places and concerns(ticket.call)]:
            track = self._find(ticket.call.token.id)
            if track:
                track.lane.withdraw(ticket.call.id)
            self._settle(ticket, ticket.last or error)

    def _put_out(self, calls: Sequence[Waiting], lane: Lane, error: GatewayError) -> None:
        """Put out, unsent, some of a lane's waiting calls."""
        for waiting in calls:
            lane.withdraw(waiting.call_id)
            ticket = self._tickets[waiting.call_id]
            self._settle(ticket, ticket.last or error)

    def _put_out_hopeless(self, track: Track) -> None:
        """Tell calls at once that the lane's pause outlasts their time."""
        opens, now = track.lane.open_from, self._clock()
        if opens > now:
            detail = f"the token's lane pauses for {opens - now:.1f} s, longer than the call has left; nothing was sent"
            error = WaitTooLong(detail, retry_after=opens - now, predicted_wait=math.ceil(opens - now))
            self._put_out([waiting for waiting in track.lane.queue if waiting.deadline <= opens], track.lane, error)

    def _run_out(self, ticket: Ticket) -> None:
        """The call's time is over."""
        if ticket.may_be_sent:
            detail = "the call's time ran out while it was under way; its result goes on record"
            self._settle(ticket, DeadlineExceeded(detail, uncertain=True))
            return
        self._withdraw(ticket)
        detail = "the call's time ran out before its turn came; nothing was sent"
        self._settle(ticket, ticket.last or DeadlineExceeded(detail))

    def _leave(self, ticket: Ticket) -> None:
        """The caller hung up."""
        self._withdraw(ticket)
        self._settle(ticket, DeadlineExceeded("the caller left"))

    def _withdraw(self, ticket: Ticket) -> None:
        track = self._find(ticket.call.token.id)
        if track and track.lane.withdraw(ticket.call.id):
            self.pump(track)

    def _settle(self, ticket: Ticket, result: Outcome | GatewayError) -> None:
        self._tickets.pop(ticket.call.id, None)
        ticket.settle(result, self._clock())

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise _shutting_down()
        if not self.reachable:
            raise _unpaced()


def _token_unusable() -> TokenUnavailable:
    return TokenUnavailable("the token was removed or disabled; nothing was sent")


def _unpaced() -> PacingUnavailable:
    return PacingUnavailable("the store in which replicas agree on turns can't be reached; nothing was sent", retry_after=1)


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the gateway is shutting down; nothing was sent", retry_after=1)


def _suspended(retry_after: float | None) -> TokenSuspended:
    return TokenSuspended("Flxpoint refused this token while the call waited; nothing was sent", retry_after=retry_after)


def _cut_short(hold: Hold) -> ShuttingDown:
    """The end of a send whose task was cancelled."""
    if hold.written is None:
        return _shutting_down()
    return ShuttingDown("the gateway stopped while the call was under way", retry_after=1, uncertain=True)
