"""The driver: runs the lanes on the event loop. It holds no rule; each lane decides, the driver carries out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from app.dispatch.lane import Hold, Lane, LanePolicy, LaneState, Release, Waiting
from app.domain import Call, Outcome, RateLimited, Stamps, TokenRef, new_id
from app.errors import DeadlineExceeded, GatewayError, InternalError, ShuttingDown, TokenUnavailable

__all__ = ["Dispatcher", "Send", "Sender", "Settled"]

ASSUMED_RETRY_AFTER = 1.0
LONGEST_RETRY_AFTER = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Send:
    """One HTTP request upstream, as the lane of that key sees it go. Times are monotonic, in seconds."""

    call: Call
    attempt: int
    released: float
    lane: str
    id: str = field(default_factory=new_id)
    written: float | None = None
    answered: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """How a call ended upstream, how often it was sent, and where its time went, in seconds."""

    outcome: Outcome
    send_id: str
    attempts: int
    queued: float
    upstream: float


class Sender(Protocol):
    """What carries a send out: puts it on record, makes the request, and tells `stamps` of the write and the answer."""

    def __call__(self, send: Send, stamps: Stamps) -> Awaitable[Outcome]:
        """Carry it out.

        Raises:
            GatewayError: it was not sent.
        """


@dataclass(slots=True)
class _Entry:
    call: Call
    sender: Sender
    settled: asyncio.Future[Settled]
    track: _Track
    under_way: bool = False

    @property
    def waiting(self) -> Waiting:
        """The call as its lane knows it."""
        return Waiting(self.call.id, self.call.caller.id, self.call.deadline)


@dataclass(slots=True)
class _Track:
    """One lane with what the driver needs to run it."""

    key: str
    lane: Lane
    entries: dict[str, _Entry] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Stamps:
    """Carries the moments of one send from `upstream` to its lane."""

    dispatcher: Dispatcher
    track: _Track
    hold: Hold
    send: Send

    def written(self, at: float) -> None:
        self.send.written = at
        self.track.lane.written(self.hold, at)
        self.dispatcher.pump(self.track)

    def answered(self, at: float) -> None:
        self.send.answered = at
        self.track.lane.answered(self.hold, at)
        self.dispatcher.pump(self.track)


class Dispatcher:
    """All lanes of this process.

    Args:
        clock: the monotonic clock, in seconds.
        depth: waiting calls a lane, at most.
        caller_depth: waiting calls of one caller in a lane, at most.
    """

    def __init__(self, clock: Callable[[], float], *, depth: int = 1_000, caller_depth: int = 200) -> None:
        self._clock = clock
        self._depth = depth
        self._caller_depth = caller_depth
        self._tracks: dict[str, _Track] = {}
        self._lane_of: dict[str, str] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._closed = False

    def know(self, tokens: Iterable[TokenRef]) -> None:
        """Take note of the tokens there are. A lane belongs to a token's value, and begins cold when that value is first seen.

        Calls that wait for a token that was rotated go over to its new value's lane; those for a token that is gone are put out.
        """
        now, known = self._clock(), {token.id: token for token in tokens}
        for token in known.values():
            self._know(token, now)
        for entry in [entry for track in self._tracks.values() for entry in track.entries.values()]:
            self._follow(entry, known.get(entry.call.token.id))
        self._lane_of = {token.id: token.lane for token in known.values()}
        in_use = set(self._lane_of.values())
        self._tracks = {key: track for key, track in self._tracks.items() if key in in_use or not track.lane.idle(now)}

    def _know(self, token: TokenRef, now: float) -> None:
        policy = LanePolicy.of(token.rate, token.burst, depth=self._depth, caller_depth=self._caller_depth)
        track = self._tracks.get(token.lane)
        if track is None:
            self._tracks[token.lane] = _Track(token.lane, Lane.cold(policy, now))
        else:
            track.lane.policy = policy

    def _follow(self, entry: _Entry, token: TokenRef | None) -> None:
        if token is not None and token.lane == entry.track.key:
            return
        entry.track.lane.withdraw(entry.call.id)
        del entry.track.entries[entry.call.id]
        if token is None:
            entry.settled.set_exception(_token_removed())
            return
        entry.track = self._tracks[token.lane]
        entry.track.entries[entry.call.id] = entry
        entry.track.lane.admit(entry.waiting)
        self.pump(entry.track)

    def check(self, call: Call) -> bool:
        """Refuse a call that couldn't be taken in, before anything is written down for it.

        Returns:
            Whether it would be sent at once.

        Raises:
            QueueFull, WaitTooLong, ShuttingDown, TokenUnavailable
        """
        self._refuse_if_closed()
        lane, now = self._track(call).lane, self._clock()
        rejected = lane.check(call.caller.id, call.deadline, now)
        if rejected:
            raise rejected.error
        return lane.state(now).remaining > 0

    async def submit(self, call: Call, sender: Sender) -> Settled:
        """Wait for the call's turn, have it sent, and return how it ended.

        If the waiting task is cancelled the call leaves the queue; a send under way goes on, its result unheard.

        Raises:
            QueueFull, WaitTooLong, ShuttingDown: it was not taken in, or was put out unsent.
            DeadlineExceeded: its time ran out; `uncertain` if it was under way.
            GatewayError: what the sender raised; it was not sent.
        """
        entry = self._enter(self._track(call), call, sender)
        try:
            await asyncio.wait({entry.settled}, timeout=max(0.0, call.deadline - self._clock()))
        except asyncio.CancelledError:
            self._leave(entry)
            raise
        if entry.settled.done():
            return entry.settled.result()
        self._leave(entry)
        if entry.under_way:
            detail = "the call's time ran out while it was under way; its result goes on record"
            raise DeadlineExceeded(detail, uncertain=True)
        detail = "the call's time ran out before its turn came; nothing was sent"
        raise DeadlineExceeded(detail)

    def state(self, token_id: str) -> LaneState | None:
        """The quota of a token's lane as of now; None where the token is gone."""
        track = self._tracks.get(self._lane_of.get(token_id, ""))
        return track.lane.state(self._clock()) if track else None

    def close(self) -> None:
        """Take in nothing more, and put out every call that still waits, unsent."""
        self._closed = True
        for track in self._tracks.values():
            for entry in list(track.entries.values()):
                track.lane.withdraw(entry.call.id)
                entry.settled.set_exception(_shutting_down())
            track.entries.clear()

    async def finish(self) -> None:
        """Wait for the sends under way."""
        while self._sending:
            await asyncio.wait(self._sending)

    def pump(self, track: _Track) -> None:
        """Do what the lane says, until it says to wait."""
        if track.timer:
            track.timer.cancel()
            track.timer = None
        while isinstance(decision := track.lane.next(self._clock()), Release):
            self._start(track, decision)
        if decision.until is not None:
            # Whole milliseconds, rounded up: uvloop's timers have no finer ones, and one that fires early would spin.
            delay = max(0, math.ceil((decision.until - self._clock()) * 1_000)) / 1_000
            track.timer = asyncio.get_running_loop().call_later(delay, self.pump, track)

    def _track(self, call: Call) -> _Track:
        track = self._tracks.get(self._lane_of.get(call.token.id, ""))
        if track is None:
            raise _token_removed()
        return track

    def _enter(self, track: _Track, call: Call, sender: Sender) -> _Entry:
        self._refuse_if_closed()
        entry = _Entry(call, sender, asyncio.get_running_loop().create_future(), track)
        rejected = track.lane.enter(entry.waiting, self._clock())
        if rejected:
            raise rejected.error
        track.entries[call.id] = entry
        self.pump(track)
        return entry

    def _leave(self, entry: _Entry) -> None:
        entry.settled.cancel()
        if not entry.under_way:
            entry.track.lane.withdraw(entry.call.id)
            entry.track.entries.pop(entry.call.id, None)
            self.pump(entry.track)

    def _start(self, track: _Track, release: Release) -> None:
        entry = track.entries.pop(release.waiting.call_id)
        entry.under_way = True
        send = Send(entry.call, 1, release.hold.released, track.key)
        task = asyncio.get_running_loop().create_task(self._carry_out(track, entry, send, release.hold))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _carry_out(self, track: _Track, entry: _Entry, send: Send, hold: Hold) -> None:
        outcome: Outcome | GatewayError | None = None
        try:
            outcome = await entry.sender(send, _Stamps(self, track, hold, send))
        except GatewayError as refused:
            outcome = refused
        except Exception:
            log.exception("a send failed by a defect", request_id=entry.call.request_id, send_id=send.id)
            outcome = InternalError("the gateway failed while it sent the call", uncertain=send.written is not None)
        finally:
            # Also when cancelled: a slot that is never given back would stop the lane.
            now = self._clock()
            track.lane.ended(hold, now, answered=send.answered is not None)
            if isinstance(outcome, RateLimited):
                track.lane.pause(now + _pause_after(outcome))
            self._settle(entry, send, now, outcome)
            self.pump(track)

    def _settle(self, entry: _Entry, send: Send, now: float, outcome: Outcome | GatewayError | None) -> None:
        if entry.settled.done():
            return
        if outcome is None:
            entry.settled.set_exception(_shutting_down())
        elif isinstance(outcome, GatewayError):
            entry.settled.set_exception(outcome)
        else:
            queued, upstream = send.released - entry.call.arrived, now - send.released
            entry.settled.set_result(Settled(outcome, send.id, send.attempt, queued, upstream))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise _shutting_down()


def _pause_after(limited: RateLimited) -> float:
    wait = ASSUMED_RETRY_AFTER if limited.retry_after is None else limited.retry_after
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def _token_removed() -> TokenUnavailable:
    return TokenUnavailable("the token was removed; nothing was sent")


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the gateway is shutting down; nothing was sent", retry_after=1)
