"""Senders that do as they are told, and a dispatcher over them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.dispatch import Dispatcher, LaneState, Settled
from app.domain import Call, Linked, Outcome, Send, Stamps
from app.errors import DeadlineExceeded, GatewayError
from tests.calls import SHOP, make_call

LONG_AGO = 100.0


@dataclass
class Clock:
    """The monotonic clock, set back while tokens are made known, so that no test waits for a cold start."""

    offset: float = -LONG_AGO

    def __call__(self) -> float:
        """The time in seconds."""
        return time.monotonic() + self.offset


@dataclass
class Sender:
    """Answers at once with what it was given; waits for `connected` before the write and for `gate` before the answer."""

    outcome: Outcome | Exception = field(default_factory=lambda: Linked((1,)))
    gate: asyncio.Event | None = None
    connected: asyncio.Event | None = None
    sends: list[Send] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
        """Carry one send out."""
        self.sends.append(send)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.connected:
            await self.connected.wait()
        await stamps.turn()
        stamps.written(time.monotonic())
        self.written.append(time.monotonic())
        if self.gate:
            await self.gate.wait()
        stamps.answered(time.monotonic())
        self.answered.append(time.monotonic())
        return self.outcome


@dataclass
class Senders:
    """Hands each call to the sender that it came with."""

    of: dict[str, Sender] = field(default_factory=dict)

    def refusal(self, call: Call) -> GatewayError | None:
        """What nobody wants any more is."""
        return None if call.wanted() else DeadlineExceeded("given up")

    async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
        """Carry one send out."""
        return await self.of[send.calls[0].id](send, stamps)


async def submit(dispatcher: Dispatcher, call: Call, sender: Sender) -> Settled:
    """Enter a call, and wait for its end.

    Raises:
        GatewayError: that was its end.
    """
    senders = dispatcher._sender
    assert isinstance(senders, Senders)
    senders.of[call.id] = sender
    settled = await dispatcher.enter(call).settled()
    if isinstance(settled.result, GatewayError):
        raise settled.result
    return settled


def dispatcher_for(*tokens: object, **bounds: Any) -> Dispatcher:
    """A dispatcher whose lanes are warm."""
    clock = Clock()
    dispatcher = Dispatcher(clock, Senders(), **bounds)
    dispatcher.know(tokens or [SHOP])  # type: ignore[arg-type]
    clock.offset = 0
    return dispatcher


def state_of(dispatcher: Dispatcher) -> LaneState:
    """The quota of the shop's lane."""
    state = dispatcher.state(SHOP.id)
    assert state
    return state


FRESH = itertools.count(1)


def now_call(wait: float = 30.0) -> Call:
    """A call that arrives now, unlike any other."""
    return make_call(next(FRESH), arrived=time.monotonic(), deadline=time.monotonic() + wait)


async def until(condition: Callable[[], object]) -> None:
    """Let others run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)
