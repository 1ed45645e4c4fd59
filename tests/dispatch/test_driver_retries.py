"""What the driver does with a call after its send: again, later, apart, or not at all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from app.dispatch import Dispatcher
from app.domain import Call, Linked, Outcome, RateLimited, Send, Stamps, TimedOut, TokenRejected, Unreachable
from app.errors import CredentialsInvalid, GatewayError, ShuttingDown, TokenSuspended
from tests.calls import SHOP, make_call
from tests.dispatch.senders import Clock, now_call, until


@dataclass
class Script:
    """Ends one send after the other as it is told, the last of them for ever; sends wait for `gate` before their turn, if there is one."""

    ends: list[Outcome]
    gate: asyncio.Event | None = None
    withdrawn: set[str] = field(default_factory=set)
    sends: list[Send] = field(default_factory=list)
    written: list[Send] = field(default_factory=list)

    def refusal(self, call: Call) -> GatewayError | None:
        """Callers whose credential was withdrawn."""
        return CredentialsInvalid("withdrawn") if call.caller.id in self.withdrawn else None

    async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
        """Carry one send out."""
        self.sends.append(send)
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, Unreachable) and not end.uncertain:
            return end
        if self.gate:
            await self.gate.wait()
        await stamps.turn()
        self.written.append(send)
        stamps.written(time.monotonic())
        if not isinstance(end, TimedOut | Unreachable):
            stamps.answered(time.monotonic())
        return end


def scripted(*ends: Outcome, gate: asyncio.Event | None = None, coalesce: bool = False) -> tuple[Dispatcher, Script, Clock]:
    """A dispatcher whose one lane is warm, over a script."""
    clock, script = Clock(), Script(list(ends), gate)
    dispatcher = Dispatcher(clock, script, coalesce=coalesce)
    dispatcher.know([SHOP])
    clock.offset = 0
    return dispatcher, script, clock


async def test_what_never_left_goes_again_after_a_pause_of_the_lane() -> None:
    """Nothing of it is uncertain; the pauses grow, so that an upstream that is away isn't stormed."""
    away = Unreachable("nobody there", uncertain=False)
    dispatcher, script, _ = scripted(away, away, away, Linked((1,)))
    settled = await dispatcher.enter(now_call()).settled()
    gaps = [later.released - earlier.released for earlier, later in zip(script.sends, script.sends[1:], strict=False)]

    assert settled.result == Linked((1,))
    assert (settled.attempts, settled.uncertain) == (4, False)
    assert all(gap >= least - 0.01 for gap, least in zip(gaps, (0.1 - 0.005, 0.2 - 0.005, 0.4 - 0.005), strict=True))


async def test_a_time_out_is_tried_three_times_and_said_to_be_uncertain() -> None:
    """The last failure is the call's end; what came before it isn't known either."""
    dispatcher, _, _ = scripted(TimedOut("no answer"))
    settled = await dispatcher.enter(now_call()).settled()

    assert settled.result == TimedOut("no answer")
    assert (settled.attempts, settled.uncertain) == (3, True)


async def test_a_shared_send_goes_on_without_the_caller_that_left() -> None:
    """Three asked for the same; one hangs up while it is under way; the other has its answer."""
    gate = asyncio.Event()
    dispatcher, script, _ = scripted(Linked((7,)))
    for _ in range(2):
        await dispatcher.enter(now_call()).settled()
    script.gate = gate
    tickets = [dispatcher.enter(make_call(7, caller=name, arrived=time.monotonic(), deadline=time.monotonic() + 30)) for name in "abc"]
    ends = [asyncio.create_task(ticket.settled()) for ticket in tickets]
    await until(lambda: len(script.sends) == 3)
    ends[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends[1]
    gate.set()
    settled = [await ends[0], await ends[2]]

    assert [one.result for one in settled] == [Linked((7,))] * 2
    assert tickets[1].was_sent
    assert [len(send.calls) for send in script.written] == [1, 1, 3]


async def test_a_send_that_everyone_left_before_its_write_is_not_written() -> None:
    """It was prepared ahead of its turn; the slot goes to the next."""
    gate = asyncio.Event()
    dispatcher, script, _ = scripted(Linked((1,)), gate=gate)
    leaving = asyncio.create_task(dispatcher.enter(now_call()).settled())
    await until(lambda: script.sends)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    await dispatcher.finish()

    assert script.written == []


async def test_a_pause_takes_back_the_turn_of_a_send_that_is_not_written_yet() -> None:
    """A 429 of the send before it pauses the lane: it goes to the front of the queue again, and costs no attempt."""
    gate = asyncio.Event()
    dispatcher, script, _ = scripted(RateLimited(1.0), Linked((1,)))
    first = dispatcher.enter(now_call())
    script.gate = gate
    second = dispatcher.enter(now_call())
    await until(lambda: len(script.sends) == 2)
    script.gate = None
    paused_from = time.monotonic()
    dispatcher._tracks[SHOP.lane].lane.pause(paused_from + 1)
    gate.set()
    settled = [await first.settled(), await second.settled()]

    assert [one.result for one in settled] == [Linked((1,))] * 2
    assert script.written[-1].released >= paused_from + 0.7


async def test_an_open_breaker_puts_out_what_waits_and_lets_one_probe_after_a_minute() -> None:
    """The probe's good answer lets the others go again."""
    rejections = [TokenRejected(401, ""), TokenRejected(401, ""), TokenRejected(403, ""), TokenRejected(401, "")]
    dispatcher, script, clock = scripted(*rejections, Linked((1,)))
    tickets = [dispatcher.enter(now_call()) for _ in range(5)]
    ends = [(await ticket.settled()).result for ticket in tickets]
    with pytest.raises(TokenSuspended):
        dispatcher.check(now_call())
    clock.offset = 61
    probe = now_call(wait=100)
    ticket = dispatcher.enter(probe)
    with pytest.raises(TokenSuspended):
        dispatcher.enter(now_call(wait=100))
    probed = await ticket.settled()
    after = await dispatcher.enter(now_call(wait=100)).settled()

    assert [type(end) for end in ends[:3]] == [TokenRejected] * 3
    assert [type(end) for end in ends[3:]] in ([TokenSuspended] * 2, [TokenRejected, TokenSuspended])
    assert probed.result == after.result == Linked((1,))
    assert len(script.sends) <= 6


async def test_a_call_whose_credential_was_withdrawn_costs_no_turn() -> None:
    """It gets its problem when its turn comes, and the next goes in its place."""
    dispatcher, script, _ = scripted(Linked((1,)))
    script.withdrawn = {"gone"}
    gone = dispatcher.enter(make_call(5, caller="gone", arrived=time.monotonic(), deadline=time.monotonic() + 30))
    others = [await dispatcher.enter(now_call()).settled() for _ in range(2)]
    settled = await gone.settled()

    assert isinstance(settled.result, CredentialsInvalid)
    assert settled.attempts == 0
    assert [one.result for one in others] == [Linked((1,))] * 2


async def test_closing_ends_a_call_that_backs_off_with_what_it_got_last() -> None:
    """It isn't sent again; its last failure is its end."""
    dispatcher, script, _ = scripted(RateLimited(20.0))
    ticket = dispatcher.enter(now_call())
    await until(lambda: script.written)
    await dispatcher.finish()
    dispatcher.close()
    settled = await ticket.settled()
    with pytest.raises(ShuttingDown):
        dispatcher.enter(now_call())

    assert settled.result == RateLimited(20.0)
