"""The driver on a real event loop, with senders that do as they are told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.dispatch import Dispatcher, LaneState, Settled
from app.domain import Call, Linked, Outcome, RateLimited, Send, Stamps
from app.errors import AuditUnavailable, DeadlineExceeded, GatewayError, InternalError, QueueFull, ShuttingDown, TokenUnavailable
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

    def refusal(self, _call: Call) -> GatewayError | None:
        """Nothing is refused."""
        return None

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


async def test_a_call_is_sent_once_and_settled() -> None:
    """The caller gets the outcome, with the attempts and the times."""
    sender = Sender()
    settled = await submit(dispatcher_for(), now_call(), sender)

    assert settled.result == Linked((1,))
    assert (settled.attempts, len(sender.sends)) == (1, 1)
    assert settled.send_id == sender.sends[0].id
    assert settled.queued >= 0
    assert settled.upstream is not None


async def test_a_refusal_of_the_sender_reaches_the_caller_and_costs_no_turn() -> None:
    """A send that couldn't be put on record is not sent, and its slot is free for the next."""
    dispatcher = dispatcher_for()
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            await submit(dispatcher, now_call(), Sender(AuditUnavailable("no")))

    assert state_of(dispatcher).remaining == 2


async def test_a_defect_is_answered_logged_and_stops_no_lane(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that nobody foresaw becomes `internal-error`, stands in the log, and the lane goes on."""
    dispatcher = dispatcher_for()
    with pytest.raises(InternalError):
        await submit(dispatcher, now_call(), Sender(ZeroDivisionError("the-defect")))
    settled = await submit(dispatcher, now_call(), Sender())
    out, err = capsys.readouterr()

    assert isinstance(settled.result, Linked)
    assert "the-defect" in caplog.text + out + err


@pytest.mark.parametrize(("retry_after", "least", "most"), [(None, 1, 3), (5.0, 5, 6), (315_360_000.0, 59, 61), (0.0, 0, 2)])
async def test_a_429_pauses_the_whole_lane(retry_after: float | None, least: float, most: float) -> None:
    """For as long as it asks, a second where it doesn't, a minute at most."""
    dispatcher = dispatcher_for()
    await submit(dispatcher, now_call(wait=0.5), Sender(RateLimited(retry_after)))

    assert least - 0.5 <= state_of(dispatcher).reset <= most


async def test_a_cancelled_wait_leaves_the_queue() -> None:
    """A caller that hangs up is not sent."""
    dispatcher, sender, gate = dispatcher_for(), Sender(), asyncio.Event()
    blockers = [asyncio.create_task(submit(dispatcher, now_call(), Sender(gate=gate))) for _ in range(2)]
    waiting = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await asyncio.gather(*blockers)
    await dispatcher.finish()

    assert sender.sends == []


async def test_a_send_under_way_outlives_its_caller() -> None:
    """A cancelled caller's send is awaited to its end."""
    dispatcher, gate = dispatcher_for(), asyncio.Event()
    sender = Sender(gate=gate)
    caller = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await until(lambda: sender.written)
    caller.cancel()
    gate.set()
    await dispatcher.finish()

    assert sender.answered


async def test_a_deadline_that_passes_while_waiting_sends_nothing() -> None:
    """The call is answered 504 and nothing is uncertain."""
    dispatcher, sender, connected = dispatcher_for(), Sender(), asyncio.Event()
    blockers = [asyncio.create_task(submit(dispatcher, now_call(), Sender(connected=connected))) for _ in range(2)]
    await until(lambda: state_of(dispatcher).remaining == 0)
    with pytest.raises(DeadlineExceeded) as raised:
        await submit(dispatcher, now_call(wait=1.1), sender)
    connected.set()
    await asyncio.gather(*blockers)

    assert not raised.value.uncertain
    assert sender.sends == []


async def test_a_deadline_that_passes_while_sending_is_uncertain() -> None:
    """The caller gets 504 at once, the send is awaited."""
    dispatcher, gate = dispatcher_for(), asyncio.Event()
    sender = Sender(gate=gate)
    with pytest.raises(DeadlineExceeded) as raised:
        await submit(dispatcher, now_call(wait=0.05), sender)
    gate.set()
    await dispatcher.finish()

    assert raised.value.uncertain
    assert sender.answered


async def test_closing_puts_out_what_waits_and_awaits_what_is_under_way() -> None:
    """At the end of the grace time waiting calls get `shutting-down`; sends in flight are finished; nothing new is taken in."""
    dispatcher, gate = dispatcher_for(), asyncio.Event()
    under_way = [asyncio.create_task(submit(dispatcher, now_call(), Sender(gate=gate))) for _ in range(2)]
    waiting = asyncio.create_task(submit(dispatcher, now_call(), Sender()))
    await asyncio.sleep(0.01)
    dispatcher.close()
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        dispatcher.check(now_call())
    gate.set()
    await dispatcher.finish()

    settled = await asyncio.gather(*under_way)

    assert [one.result for one in settled] == [Linked((1,))] * 2


async def test_a_rotated_token_begins_cold() -> None:
    """The new value's past isn't known, so the lane waits as a new one does."""
    dispatcher = dispatcher_for()
    before = state_of(dispatcher).reset
    dispatcher.know([replace(SHOP, version=2, lane="lane-2")])

    assert before == 0
    assert 1.0 < state_of(dispatcher).reset <= 1.25


async def test_an_unchanged_token_stays_warm() -> None:
    """Reading the tokens anew changes nothing for a lane whose token is as it was."""
    dispatcher = dispatcher_for()
    dispatcher.know([SHOP])

    assert state_of(dispatcher).reset == 0


async def test_a_removed_token_takes_no_calls() -> None:
    """A call that chose a token just before it was removed is refused."""
    dispatcher = dispatcher_for()
    dispatcher.know([])

    with pytest.raises(TokenUnavailable):
        dispatcher.check(now_call())
    assert dispatcher.state(SHOP.id) is None


async def test_calls_that_wait_for_a_rotated_token_go_over_to_its_new_lane() -> None:
    """They keep waiting, go with the new value's lane, and never before that lane is warm."""
    dispatcher, connected = dispatcher_for(), asyncio.Event()
    ahead = [asyncio.create_task(submit(dispatcher, now_call(), Sender(connected=connected))) for _ in range(2)]
    sender = Sender()
    waiting = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await asyncio.sleep(0.01)
    rotated_at = time.monotonic()
    dispatcher.know([replace(SHOP, version=2, lane="lane-2")])
    connected.set()
    await asyncio.gather(*ahead, waiting)

    assert sender.sends[0].lane == "lane-2"
    assert sender.written[0] >= rotated_at + 1.25


async def test_calls_that_wait_for_a_removed_token_are_put_out() -> None:
    """They are answered `token-unavailable` at once, unsent."""
    dispatcher, connected, sender = dispatcher_for(), asyncio.Event(), Sender()
    ahead = [asyncio.create_task(submit(dispatcher, now_call(), Sender(connected=connected))) for _ in range(2)]
    waiting = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await asyncio.sleep(0.01)
    dispatcher.know([])
    with pytest.raises(TokenUnavailable):
        await waiting
    connected.set()
    await asyncio.gather(*ahead)

    assert sender.sends == []


async def test_a_value_that_is_removed_and_added_again_keeps_its_lane() -> None:
    """The sends of the value's last second still count, under whatever name it comes back."""
    dispatcher = dispatcher_for()
    await asyncio.gather(*(submit(dispatcher, now_call(), Sender()) for _ in range(2)))
    dispatcher.know([])
    again = replace(SHOP, id="token-2", name="shop-again")
    dispatcher.know([again])
    state = dispatcher.state(again.id)

    assert state
    assert state.remaining == 0
    assert state.reset <= 1.0


async def test_an_idle_lane_of_a_token_that_is_gone_is_forgotten() -> None:
    """Lanes of tokens long gone take no memory; a value that comes back then begins cold."""
    dispatcher = dispatcher_for()
    dispatcher.know([])
    dispatcher.know([SHOP])

    assert state_of(dispatcher).reset > 1.0


async def test_a_full_lane_refuses_before_anything_is_written_down() -> None:
    """The check refuses what entering would refuse, and both say `queue-full`."""
    dispatcher, gate = dispatcher_for(depth=1), asyncio.Event()
    tasks = [asyncio.create_task(submit(dispatcher, now_call(), Sender(gate=gate))) for _ in range(3)]
    await asyncio.sleep(0.01)
    with pytest.raises(QueueFull):
        dispatcher.check(now_call())
    with pytest.raises(QueueFull):
        await submit(dispatcher, now_call(), Sender())
    gate.set()
    await asyncio.gather(*tasks)

    assert state_of(dispatcher).limit == 2
