"""A call's ticket: what the driver knows of a call from its admission to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from app.dispatch.fairness import Waiting
from app.domain import Call, Outcome
from app.errors import GatewayError

__all__ = ["Place", "Settled", "Ticket"]


class Place(Enum):
    """Where a call is: in its lane's queue, upstream, backing off before it queues again, or at its end."""

    WAITING = auto()
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
    _on_its_way: bool = False

    @property
    def was_sent(self) -> bool:
        """Whether the upstream may have its work to do, or done: it is under way, or an earlier attempt's result isn't known."""
        return self._on_its_way or self.uncertain

    async def settled(self) -> Settled:
        """Wait for the call's end. If the wait is cancelled the call leaves its queue; a send under way goes on, its result unheard."""
        try:
            return await self.end
        except asyncio.CancelledError:
            self._on_its_way = self.place is Place.UNDER_WAY
            self.leave(self)
            raise

    def settle(self, result: Outcome | GatewayError, now: float) -> None:
        """The call has its end; nothing where it had one."""
        self.place = Place.DONE
        for timer in (self.timer, self.back_off):
            if timer:
                timer.cancel()
        if self.end.done():
            return
        released = now if self.released is None else self.released
        upstream = now - released if self.attempts else None
        self.end.set_result(Settled(result, self.send_id, self.attempts, released - self.call.arrived, upstream, self.uncertain))
