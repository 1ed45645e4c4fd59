"""A call's ticket: what the driver knows of a call from its admission to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from app.dispatch.fairness import Waiting
from app.domain import Call, Outcome
from app.errors import GatewayError

__all__ = ["Flight", "Place", "Settled", "Ticket"]


class Place(Enum):
    """Where a call is: in its lane's queue, getting ready for its turn, upstream, backing off before it queues again, or at its end."""

    WAITING = auto()
    PREPARING = auto()
    UNDER_WAY = auto()
    BACKING_OFF = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Settled:
    """How a call ended, how often it was sent, with which send last, and where its time went, in seconds.

    `uncertain`: an earlier attempt's result isn't known, so that the upstream may have done the work, or part of it, already then.
    """

    result: Outcome | GatewayError
    send_id: str | None
    attempts: int
    queued: float
    upstream: float | None
    uncertain: bool


@dataclass(slots=True, eq=False)
class Flight:
    """One send in the driver's hands: the calls that it carries, and whether all of them have left before its turn."""

    tickets: Sequence[Ticket]
    deserted: bool = False
    _waits: asyncio.Future[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether one of its calls is still there and shall be sent still."""
        return any(ticket.place is not Place.DONE and ticket.call.wanted() for ticket in self.tickets)

    async def wait_to_be_deserted(self, within: float) -> None:
        """Wait until all of its calls have left, `within` seconds at most."""
        loop = asyncio.get_running_loop()
        self._waits = loop.create_future()
        timer = loop.call_later(within, _wake, self._waits)
        try:
            await self._waits
        finally:
            timer.cancel()

    def desert(self) -> None:
        """All of its calls have left."""
        self.deserted = True
        if self._waits:
            _wake(self._waits)

    def depart(self) -> None:
        """Its turn has come, or it has ended without one: those of its calls that are still there have gone with it."""
        for ticket in self.tickets:
            if ticket.place is Place.PREPARING:
                ticket.place = Place.UNDER_WAY


@dataclass(slots=True, eq=False)
class Ticket:
    """One call in the driver's hands. `left` counts its sends that were written and not answered 429."""

    call: Call
    waiting: Waiting
    end: asyncio.Future[Settled]
    leave: Callable[[Ticket], None]
    place: Place = Place.WAITING
    attempts: int = 0
    left: int = 0
    uncertain: bool = False
    last: Outcome | None = None
    released: float | None = None
    send_id: str | None = None
    timer: asyncio.TimerHandle | None = None
    back_off: asyncio.TimerHandle | None = None
    flight: Flight | None = None
    _before: tuple[float | None, str | None] = (None, None)
    _may_be_sent: bool = False

    @property
    def was_sent(self) -> bool:
        """Of a call that left: whether the upstream may have its work to do, or done, now or by an earlier attempt."""
        return self._may_be_sent or self.uncertain

    @property
    def may_be_sent(self) -> bool:
        """Whether its request is written, or may yet be: its turn has come, or another call of its send still wants it."""
        if self.place is not Place.PREPARING or self.flight is None:
            return self.place is Place.UNDER_WAY
        return any(other.place is not Place.DONE for other in self.flight.tickets if other is not self)

    def take_off(self, flight: Flight, send_id: str, released: float) -> None:
        """It goes with this send, whose turn comes soon."""
        self._before = self.released, self.send_id
        self.place, self.flight, self.send_id, self.released = Place.PREPARING, flight, send_id, released
        self.attempts += 1

    def lose_turn(self) -> None:
        """It doesn't go with its send after all: what was before holds again."""
        self.flight = None
        self.released, self.send_id = self._before
        self.attempts -= 1

    async def settled(self) -> Settled:
        """Wait for the call's end. If the wait is cancelled the call leaves its queue; a send under way goes on, its result unheard."""
        try:
            return await self.end
        except asyncio.CancelledError:
            # Its end may have come in the same turn of the loop, unheard; else the cancellation has reached the future too.
            self._may_be_sent = self.may_be_sent or (self.attempts > 0 and not self.end.cancelled())
            self.leave(self)
            raise

    def settle(self, result: Outcome | GatewayError, now: float) -> None:
        """The call has its end; nothing where it had one. If it is the last that its send gets ready for, the send is not made."""
        if self.place is Place.PREPARING and self.flight and not self.may_be_sent:
            self.flight.desert()
            self.lose_turn()
        self.place = Place.DONE
        for timer in (self.timer, self.back_off):
            if timer:
                timer.cancel()
        if self.end.done():
            return
        released = now if self.released is None else self.released
        upstream = now - released if self.attempts else None
        self.end.set_result(Settled(result, self.send_id, self.attempts, released - self.call.arrived, upstream, self.uncertain))


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
