"""Between a send's release and its turn: what leaves, what is taken back, and what its callers are told."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

import pytest

from app.dispatch import Dispatcher, Settled
from app.dispatch.lane import Lane
from app.domain import Linked, Outcome, RateLimited, Send, Stamps, TokenRejected, Unreachable, new_id
from app.errors import DeadlineExceeded, ShuttingDown, TokenSuspended, WaitTooLong
from tests.calls import SHOP, make_call
from tests.dispatch.senders import Sender, dispatcher_for, now_call, submit, until


@dataclass
class Slow(Sender):
    """Gets ready only when `ready` is set; notes each send's first order and caller in a list that several may share."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    order: list[str] = field(default_factory=list)

    async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
        """Carry one send out."""
        self.order.append(f"{send.calls[0].caller.id}{send.ids[0]}")
        await self.ready.wait()
        return await super().__call__(send, stamps)


def lane_of(dispatcher: Dispatcher) -> Lane:
    """The shop's lane."""
    return dispatcher._tracks[dispatcher._lane_of[SHOP.id]].lane


def open_breaker(dispatcher: Dispatcher) -> None:
    """Three refusals, long enough ago that a call may probe."""
    for _ in range(3):
        lane_of(dispatcher).refused("link-orders", dispatcher.now - 61)


@pytest.mark.parametrize("how", ["hang-up", "deadline", "pause"])
async def test_a_probe_that_loses_its_turn_leaves_the_place_to_another(how: str) -> None:
    """The breaker doesn't wait for ever for a call that is gone; one that only waits longer stays the probe, and closes it."""
    dispatcher, sender = dispatcher_for(), Slow()
    open_breaker(dispatcher)
    probing = asyncio.create_task(submit(dispatcher, now_call(wait=0.2 if how == "deadline" else 10), sender))
    await until(lambda: sender.order)
    if how == "hang-up":
        probing.cancel()
    elif how == "pause":
        lane_of(dispatcher).pause(dispatcher.now + 0.5)
    else:
        await asyncio.gather(probing, return_exceptions=True)
    sender.ready.set()
    await asyncio.gather(probing, return_exceptions=True)
    await dispatcher.finish()
    after = await submit(dispatcher, now_call(), Sender())

    assert bool(sender.written) is (how == "pause")
    assert isinstance(after.result, Linked)


async def test_a_deadline_before_the_turn_is_certain() -> None:
    """Nothing was sent and nothing will be: no attempt is counted, and nothing is uncertain."""
    dispatcher, sender = dispatcher_for(), Slow()
    settled = await _enter(dispatcher, sender, wait=0.1)
    sender.ready.set()
    await dispatcher.finish()

    assert isinstance(settled.result, DeadlineExceeded)
    assert not settled.result.uncertain
    assert (settled.attempts, settled.send_id, sender.written) == (0, None, [])


async def test_a_hang_up_before_the_turn_sends_nothing() -> None:
    """And is recorded so."""
    dispatcher, sender, call = dispatcher_for(), Slow(), now_call()
    dispatcher._sender.of[call.id] = sender  # type: ignore[attr-defined]
    ticket = dispatcher.enter(call)
    leaving = asyncio.create_task(ticket.settled())
    await until(lambda: sender.order)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    sender.ready.set()
    await dispatcher.finish()

    assert not ticket.was_sent
    assert sender.written == []


@pytest.mark.parametrize("others", [0, 1])
async def test_what_was_given_up_while_its_connection_was_made_is_not_written(others: int) -> None:
    """A job that is cancelled meanwhile, or whose lease ran out; a send that another call still wants goes."""
    dispatcher, sender, wanted = dispatcher_for(), Slow(), [True]
    call = replace(now_call(), wanted=lambda: wanted[0])
    equals = [replace(call, id=new_id(), wanted=lambda: True) for _ in range(others)]
    # Both places of the window are taken meanwhile, so that equal calls wait and go together.
    calls = [asyncio.create_task(submit(dispatcher, one, Sender())) for one in (now_call(), now_call())]
    calls += [asyncio.create_task(submit(dispatcher, one, sender)) for one in (call, *equals)]
    await until(lambda: sender.order)
    wanted[0] = False
    sender.ready.set()
    given_up, *ends = (await asyncio.gather(*calls, return_exceptions=True))[2:]

    assert len(sender.written) == others
    assert all(isinstance(end, Settled) for end in ends)
    assert isinstance(given_up, Settled if others else DeadlineExceeded)


async def test_a_hang_up_in_the_moment_of_the_answer_is_not_taken_for_unsent() -> None:
    """The result is there, and nobody hears it."""
    dispatcher, sender, call = dispatcher_for(), Sender(gate=asyncio.Event()), now_call()
    dispatcher._sender.of[call.id] = sender  # type: ignore[attr-defined]
    ticket = dispatcher.enter(call)
    leaving = asyncio.create_task(ticket.settled())
    await until(lambda: sender.written)
    assert sender.gate
    sender.gate.set()
    while not ticket.end.done():
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    assert ticket.was_sent


async def test_calls_that_could_not_connect_come_back_in_their_order() -> None:
    """Two sends of one caller fail together; the earlier call goes first again."""
    dispatcher, order = dispatcher_for(), list[str]()

    class Away(Slow):
        async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
            if len(self.sends) == 0:
                self.sends.append(send)
                self.order.append(str(send.ids[0]))
                await asyncio.sleep(0.01 * len(self.order))
                return Unreachable("away", uncertain=False)
            return await super().__call__(send, stamps)

    calls, ready = [now_call() for _ in range(3)], asyncio.Event()
    ready.set()
    await asyncio.gather(*(submit(dispatcher, call, Away(order=order, ready=ready)) for call in calls))

    assert order[2:4] == [f"service{call.ids[0]}" for call in calls[:2]]


async def test_a_lost_turn_costs_nothing_and_keeps_its_place() -> None:
    """A pause takes both turns back: the other caller's single call, which was first, is first again, though a flood came meanwhile."""
    dispatcher, order, ready = dispatcher_for(), list[str](), asyncio.Event()

    def one(number: int, caller: str) -> asyncio.Task[Settled]:
        now = time.monotonic()
        call = make_call(number, caller=caller, arrived=now, deadline=now + 30)
        return asyncio.create_task(submit(dispatcher, call, Slow(order=order, ready=ready)))

    tasks = [one(1, "b")]
    await until(lambda: len(order) == 1)
    tasks.append(one(100, "a"))
    await until(lambda: len(order) == 2)
    tasks += [one(number, "a") for number in range(200, 204)]
    await asyncio.sleep(0.02)
    lane_of(dispatcher).pause(dispatcher.now + 0.5)
    ready.set()
    settled = await asyncio.gather(*tasks)

    assert order[:5] == ["b1", "a100", "b1", "a100", "a200"]
    assert [one.attempts for one in settled] == [1] * 6


async def test_a_prepared_call_that_a_pause_outlasts_is_told_at_once() -> None:
    """It lost its turn to a pause of a minute and has two seconds left."""
    dispatcher, gate, second = dispatcher_for(), asyncio.Event(), Slow()
    first = Sender(RateLimited(60.0), gate=gate)
    limited = asyncio.create_task(submit(dispatcher, now_call(wait=5), first))
    told = asyncio.create_task(submit(dispatcher, now_call(wait=5), second))
    await until(lambda: first.written and second.order)
    gate.set()
    await limited
    second.ready.set()
    with pytest.raises(WaitTooLong):
        await told

    assert second.written == []


async def test_a_call_that_a_rotations_cold_start_outlasts_is_told_at_once() -> None:
    """The new value's lane begins cold, and the call hasn't so long."""
    dispatcher, gate = dispatcher_for(), asyncio.Event()
    ahead = [asyncio.create_task(submit(dispatcher, now_call(), Sender(gate=gate))) for _ in range(2)]
    await asyncio.sleep(0.01)
    call = now_call(wait=1.2)
    waiting = asyncio.create_task(submit(dispatcher, call, Sender()))
    await asyncio.sleep(0.1)
    dispatcher.know([replace(SHOP, version=2, lane="lane-2")])
    with pytest.raises(WaitTooLong):
        await waiting
    told_with = call.deadline - time.monotonic()
    gate.set()
    await asyncio.gather(*ahead)

    assert told_with > 0


async def test_a_prepared_send_follows_a_value_that_went_to_another_token() -> None:
    """Two tokens swap their values: the send goes in the lane of its own token's value, never with the other's."""
    other = replace(SHOP, id="token-2", name="other", lane="lane-2")
    dispatcher, sender = dispatcher_for(SHOP, other), Slow()
    sending = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await until(lambda: sender.order)
    dispatcher.know([replace(SHOP, version=2, lane="lane-2"), replace(other, version=2, lane="lane-1")])
    sender.ready.set()
    await sending

    assert [send.lane for send in sender.sends] == ["lane-1", "lane-2"]
    assert len(sender.written) == 1


async def test_calls_that_wait_follow_their_tokens_when_two_swap_their_values() -> None:
    """Both queues go over in one step: each call is sent once, in the lane of the value that its own token has now."""
    other = replace(SHOP, id="token-2", name="other", lane="lane-2")
    dispatcher, sent = dispatcher_for(SHOP, other), {SHOP.name: Sender(), other.name: Sender()}
    calls = [
        make_call(number, token=token, arrived=dispatcher.now, deadline=dispatcher.now + 30)
        for number in range(3, 6)
        for token in (SHOP, other)
    ]
    entered = [asyncio.create_task(submit(dispatcher, call, sent[call.token.name])) for call in calls]
    await until(lambda: sum(len(sender.answered) for sender in sent.values()) == 4)
    dispatcher.know([replace(SHOP, version=2, lane="lane-2"), replace(other, version=2, lane="lane-1")])
    await asyncio.gather(*entered)

    assert {name: [send.lane for send in sender.sends] for name, sender in sent.items()} == {
        "shop": ["lane-1", "lane-1", "lane-2"],
        "other": ["lane-2", "lane-2", "lane-1"],
    }


async def test_closing_after_a_stall_starts_no_send() -> None:
    """Slots have opened meanwhile, but what is put out isn't sent."""
    dispatcher = dispatcher_for()
    await asyncio.gather(*(submit(dispatcher, now_call(), Sender()) for _ in range(2)))
    senders = [Sender() for _ in range(3)]
    waiting = [asyncio.create_task(submit(dispatcher, now_call(), sender)) for sender in senders]
    await asyncio.sleep(0.01)
    time.sleep(1.3)  # noqa: ASYNC251 - the stall
    dispatcher.close()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    await dispatcher.finish()

    assert [type(end) for end in ends] == [ShuttingDown] * 3
    assert [sender.sends for sender in senders] == [[]] * 3


async def test_a_send_that_is_cut_short_after_its_write_is_uncertain() -> None:
    """The process ends at once, say; what the upstream did isn't known."""
    dispatcher, sender = dispatcher_for(), Sender(gate=asyncio.Event())
    sending = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await until(lambda: sender.written)
    for task in dispatcher._sending:
        task.cancel()
    with pytest.raises(ShuttingDown) as raised:
        await sending

    assert raised.value.uncertain


async def test_calls_put_out_by_the_breaker_are_told_when_to_come_back() -> None:
    """When the next call may probe."""
    dispatcher = dispatcher_for()
    open_breaker(dispatcher)
    lane_of(dispatcher).resume()
    gate = asyncio.Event()
    ahead = [asyncio.create_task(submit(dispatcher, now_call(), Sender(TokenRejected(401, ""), gate=gate))) for _ in range(2)]
    await asyncio.sleep(0.01)
    lane_of(dispatcher).refused("link-orders", dispatcher.now)
    waiting = asyncio.create_task(submit(dispatcher, now_call(), Sender()))
    await asyncio.sleep(0.01)
    gate.set()
    with pytest.raises(TokenSuspended) as raised:
        await waiting
    await asyncio.gather(*ahead)

    assert raised.value.retry_after
    assert 59 < raised.value.retry_after <= 60


async def test_a_value_that_comes_back_finds_its_pause_again() -> None:
    """A 429's minute isn't over since its token was removed and added."""
    dispatcher = dispatcher_for()
    lane_of(dispatcher).pause(dispatcher.now + 60)
    dispatcher.know([])
    dispatcher.know([SHOP])

    assert lane_of(dispatcher).open_from > dispatcher.now + 50


async def _enter(dispatcher: Dispatcher, sender: Sender, wait: float) -> Settled:
    call = now_call(wait)
    dispatcher._sender.of[call.id] = sender  # type: ignore[attr-defined]
    return await dispatcher.enter(call).settled()
