"""What happens to replicas and to the Valkey that they share: in none of it does a window break, and what can't be paced isn't sent."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from benchmarks.windows import breaches
from tests.cli.processes import PATIENCE_SECONDS
from tests.kills.evidence import Evidence
from tests.replicas.fleet import Called, Fleet, Replica
from tests.servers.valkey import faketime

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 9
WAIT_SECONDS = 15
PAUSED_SECONDS = 5.0
SHORTLY_PAUSED_SECONDS = 0.4
OLDEST_CLAIM_SECONDS = 0.5
"""What may still arrive of turns that were taken before Valkey went."""
TOLD_WITHIN_SECONDS = 6.0
REFUSED = "pacing-unavailable"


async def test_a_paused_replica_sends_on_no_stale_claim(fleet: Fleet) -> None:
    """While it stands still the others' calls go on, and its own go out afterwards, in their turn."""
    token = fleet.next_token()
    first, *others = fleet.living
    of_first = asyncio.create_task(fleet.ask_all(CALLS, [first], token=token))
    of_others = asyncio.create_task(fleet.ask_all(CALLS, others, token=token))
    await fleet.arrived(2, token)
    with first.paused():
        before = len(await fleet.arrivals(token))
        await asyncio.sleep(PAUSED_SECONDS)
        while_paused = len(await fleet.arrivals(token)) - before

    assert all(one.right for one in await of_others + await of_first)
    assert while_paused > 1
    assert not breaches(await fleet.arrivals(token))


async def test_a_replica_that_stumbles_breaks_no_window(fleet: Fleet) -> None:
    """Paused for a moment right after each arrival, whatever it was about to do."""
    token = fleet.next_token()
    calls = asyncio.create_task(fleet.ask_all(CALLS, token=token))
    for number in range(1, CALLS - 1):
        await fleet.arrived(number, token)
        with fleet.living[number % len(fleet.living)].paused():
            await asyncio.sleep(SHORTLY_PAUSED_SECONDS)

    assert all(one.right for one in await calls)
    assert not breaches(await fleet.arrivals(token))


async def test_valkey_away_sends_nothing_and_says_so(fleet: Fleet) -> None:
    """What waits is told within seconds, what comes at once; when Valkey is back, empty, the lane begins cold."""
    token = fleet.next_token()
    waiting = asyncio.create_task(fleet.ask_all(CALLS, token=token))
    await fleet.arrived(2, token)
    with fleet.valkey.away():
        gone = time.monotonic()
        told = await waiting
        late = await fleet.ask_all(len(fleet.living), token=token)
        sent = await fleet.arrivals(token)
    back = time.monotonic()
    await fleet.ready()
    after = await fleet.ask_all(3, token=token)
    arrivals = await fleet.arrivals(token)

    assert {one.problem for one in told if not one.right} == {REFUSED}
    assert {(one.status, one.problem) for one in late} == {(503, REFUSED)}
    assert all(one < gone + OLDEST_CLAIM_SECONDS for one in sent)
    assert all(one.right for one in after)
    assert arrivals[len(sent)] > back + 1
    assert not breaches(arrivals)


async def test_valkey_started_again_empty_breaks_no_window(fleet: Fleet) -> None:
    """Three times, under load: each time every lane begins cold, and every call is answered in the end."""
    token = fleet.next_token()
    calls = asyncio.create_task(fleet.ask_all(CALLS, token=token))
    for number in (2, 4, 6):
        await fleet.arrived(number, token)
        with fleet.valkey.away():
            pass

    assert all(one.right for one in await calls)
    assert not breaches(await fleet.arrivals(token))


async def test_a_slow_valkey_breaks_no_window(fleet: Fleet) -> None:
    """An answer after 200 ms comes too late for some turns; those are taken again."""
    token = fleet.next_token()
    with ExitStack() as slow:
        for replica in fleet.living:
            slow.enter_context(replica.network.delayed(there=0.1, back=0.1))
        called = await fleet.ask_all(CALLS, token=token)

    assert all(one.right for one in called)
    assert not breaches(await fleet.arrivals(token))


async def test_a_replica_cut_off_from_valkey_sends_nothing(fleet: Fleet) -> None:
    """Its calls are refused, the others' go on; what it asked for before arrives late and is of no use to it."""
    token = fleet.next_token()
    first, *others = fleet.living
    of_first = asyncio.create_task(fleet.ask_all(CALLS, [first], token=token))
    of_others = asyncio.create_task(fleet.ask_all(CALLS, others, token=token))
    await fleet.arrived(2, token)
    with first.network.partitioned():
        async with asyncio.timeout(TOLD_WITHIN_SECONDS):
            cut_off = await of_first
        unreachable = await fleet.readiness(first)
    await fleet.ready(first)
    healed = await fleet.ask(first, token=token)

    assert {one.problem for one in cut_off if not one.right} == {REFUSED}
    assert unreachable == 503
    assert healed.right
    assert all(one.right for one in await of_others)
    assert not breaches(await fleet.arrivals(token))


@pytest.mark.parametrize("seconds", [5.0, -5.0], ids=["forward", "back"])
async def test_a_step_of_valkeys_clock_breaks_no_window(fleet: Fleet, seconds: float) -> None:
    """The lane begins cold, and every call is answered."""
    faketime()
    token = fleet.next_token()
    calls = asyncio.create_task(fleet.ask_all(CALLS, token=token))
    await fleet.arrived(3, token)
    with fleet.valkey.clock_stepped(seconds):
        called = await calls

    assert all(one.right for one in called)
    assert not breaches(await fleet.arrivals(token))


async def test_a_dead_replicas_places_fall_out(fleet: Fleet) -> None:
    """Its callers' connections are gone, the others' calls go on, no place of its own is left, and another takes its place."""
    token = fleet.next_token()
    another, lost, called = await lose_one(fleet, token)

    assert all(one.told is None or one.right for one in lost)
    assert all(one.right for one in called)
    assert (await fleet.ask(another, token=token)).right
    await fleet.deserted()
    assert not breaches(await fleet.arrivals(token))


async def test_the_others_put_on_record_how_a_dead_replicas_calls_ended(fleet: Fleet) -> None:
    """Whatever arrived was announced, and in the end each call and each send has one outcome."""
    token = fleet.next_token()
    _, lost, _ = await lose_one(fleet, token)
    unanswered = {str(one.order) for one in lost if one.told is None}
    chains = {one["chain"] for one in fleet.records() if one["name"] == "call:intent" and unanswered.intersection(one["ids"])}
    for chain in chains:
        fleet.expire(chain)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (evidence := Evidence(fleet.records())).without_one_outcome("call"):
            await asyncio.sleep(0.1)

    assert len(chains) == 1
    assert not evidence.without_one_outcome("send")
    assert not evidence.unannounced({token: await fleet.recorder.targets(token)})


async def lose_one(fleet: Fleet, token: str) -> tuple[Replica, list[Called], list[Called]]:
    """Kill one replica while calls wait at all, and start another; gives that one, the dead one's calls, and the others'."""
    *others, last = fleet.living
    of_last = asyncio.create_task(fleet.ask_all(CALLS, [last], token=token))
    of_others = asyncio.create_task(fleet.ask_all(CALLS, others, token=token))
    await fleet.arrived(2, token)
    last.kill()
    another = fleet.start()
    lost, called = await of_last, await of_others
    await fleet.ready(another)
    return another, lost, called


async def test_places_that_were_dropped_are_kept_anew(fleet: Fleet) -> None:
    """Those of a replica that stood still for long are dropped, and it can't know; its calls go out all the same when it goes on."""
    token = fleet.next_token()
    calls = asyncio.create_task(fleet.ask_all(CALLS, fleet.living[:1], token=token, wait=WAIT_SECONDS))
    await fleet.arrived(2, token)
    for kept in ("places", "held"):
        fleet.valkey.ask("DEL", *fleet.valkey.ask("KEYS", f"flxpoint-gateway:*:{kept}"))

    assert all(one.right for one in await calls)
    assert not breaches(await fleet.arrivals(token))
