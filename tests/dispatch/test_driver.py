"""The driver on a real event loop, with senders that do as they are told."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from app.domain import Burst, Linked, Pacing, Priority, RateLimited, TokenRejected
from app.errors import AuditUnavailable, DeadlineExceeded, InternalError, QueueFull, ShuttingDown, TokenUnavailable
from tests.calls import SHOP
from tests.dispatch.senders import Sender, dispatcher_for, now_call, state_of, submit, until


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


async def test_a_changed_tokens_waiting_calls_go_by_its_new_bounds() -> None:
    """The lane stays, with its calls and slots; what waits goes as soon as the new bounds let it."""
    dispatcher, sender = dispatcher_for(), Sender()
    tasks = [asyncio.create_task(submit(dispatcher, now_call(), sender)) for _ in range(8)]
    await until(lambda: len(sender.answered) == 2)
    changed = replace(SHOP, rate=50, burst=Burst.WINDOW, pacing=Pacing.PROVEN)

    dispatcher.know([changed])
    await asyncio.gather(*tasks)

    [report] = dispatcher.reports()
    assert sender.written[-1] - sender.written[0] < 0.5
    assert (report.rate, report.pacing, state_of(dispatcher).limit) == (50, "proven", 50)


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
    """They are answered `token-unavailable`, unsent: those in the queue at once, those about to be written when they would be."""
    dispatcher, connected, sender = dispatcher_for(), asyncio.Event(), Sender()
    ahead = [asyncio.create_task(submit(dispatcher, now_call(), Sender(connected=connected))) for _ in range(2)]
    waiting = asyncio.create_task(submit(dispatcher, now_call(), sender))
    await asyncio.sleep(0.01)
    dispatcher.know([])
    with pytest.raises(TokenUnavailable):
        await waiting
    connected.set()
    ends = await asyncio.gather(*ahead, return_exceptions=True)

    assert [type(end) for end in ends] == [TokenUnavailable] * 2
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


async def test_many_sends_take_as_long_as_the_rate_says() -> None:
    """Two a second, behind the interactive calls that wait; batches' calls don't count, and of a token that is gone nobody can tell."""
    dispatcher, gate = dispatcher_for(), asyncio.Event()
    idle = dispatcher.wait_behind_interactive(SHOP.id, "link-orders", 21)
    calls = [*(now_call() for _ in range(4)), *(replace(now_call(), priority=Priority.BATCH) for _ in range(4))]
    waiting = [asyncio.create_task(submit(dispatcher, call, Sender(gate=gate))) for call in calls]
    await asyncio.sleep(0)
    behind = dispatcher.wait_behind_interactive(SHOP.id, "link-orders", 21)
    gone = dispatcher.wait_behind_interactive("gone", "link-orders", 21)
    for task in waiting:
        task.cancel()
    gate.set()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert idle is not None
    assert behind is not None
    assert gone is None
    assert 10 <= round(idle, 6) < 11
    assert 11 <= round(behind, 6) < 13


async def test_nobody_can_tell_how_long_a_suspended_token_takes() -> None:
    """While Flxpoint refuses it for an operation; another operation isn't concerned."""
    dispatcher = dispatcher_for()
    for _ in range(3):
        await submit(dispatcher, now_call(), Sender(TokenRejected(403, "no")))

    assert dispatcher.wait_behind_interactive(SHOP.id, "link-orders", 1) is None
    assert dispatcher.wait_behind_interactive(SHOP.id, "another", 1) is not None
