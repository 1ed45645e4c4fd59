"""The task that takes a lane's turns, over a real Valkey and in real time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.dispatch.lane import LanePolicy
from app.dispatch.shared import turns
from app.dispatch.shared.link import LinkDown, script_source
from app.dispatch.shared.slots import Claim
from app.dispatch.window import NEVER
from app.domain import Pacing
from tests.cli.processes import PATIENCE_SECONDS
from tests.dispatch.shared.replica import replica
from tests.servers.proxy import proxied
from tests.servers.valkey import Valkey, faketime, valkey

SOON = LanePolicy(per=0.1)
"""So that little is waited for."""


def places(server: Valkey, key: str) -> int:
    """How many places a lane has."""
    return int(server.ask("ZCARD", f"flxpoint-gateway:{{{key}}}:places"))


async def test_calls_get_their_turns_in_order(server: Valkey) -> None:
    """Each is released with a slot of its own, and nothing is kept for it any more."""
    async with replica(server.address, policy=SOON) as one:
        for call_id in ("a-1", "a-2", "a-3"):
            one.call(call_id)
        for _ in range(3):
            claim = await one.turn()
            assert await one.lane_turns.keep(claim)
            one.write(claim)
            one.answer(claim)

        assert not places(server, one.key)


async def test_a_lost_turn_comes_again(server: Valkey) -> None:
    """The call that is put back gets it."""
    async with replica(server.address, policy=SOON) as one:
        one.call("a-1")
        await one.until(lambda: one.released)
        release = one.released[0]
        claim = await one.turn()
        one.lane.put_back(release.waiting, one.now)
        one.lose(claim)

        assert (await one.turn()).id != claim.id


async def test_an_old_claim_is_renewed_if_its_slot_is_free(server: Valkey) -> None:
    """And not used if another replica has it by then."""
    policy = LanePolicy(slots=1, per=0.1)
    async with replica(server.address, policy=policy) as one, replica(server.address, one.key, policy) as other:
        one.call("a-1")
        claim = await one.turn()
        await asyncio.sleep(max(0.0, claim.usable_until - one.now))
        assert await one.lane_turns.keep(claim)
        other.call("b-1")
        await other.turn()

        await asyncio.sleep(max(0.0, claim.usable_until - one.now))
        assert not await one.lane_turns.keep(claim)


async def test_a_claim_is_used_for_no_longer_than_valkey_was_told(server: Valkey) -> None:
    """The answer that brings it takes long, and so will others: that concerns the next claim, not this one."""
    with proxied(server.port) as proxy:
        async with replica(server.address_at(proxy.port)) as one:
            await one.lane_turns._ask("withdraw", 0.1)
            await asyncio.sleep(max(0.0, one.lane.open_from - one.now))
            usable, asked = one.lane_turns._usable, one.now
            with proxy.delayed(back=0.4):
                one.call("a-1")
                await one.until(lambda: one.released)
            claim = one.released[0].hold

            assert isinstance(claim, Claim)
            assert claim.usable_until - asked < usable + 0.2


async def test_turns_are_taken_from_a_slow_valkey(server: Valkey) -> None:
    """With 0.2 s each way a turn isn't taken so early that it is lost before its slot opens."""
    with proxied(server.port) as proxy:
        async with replica(server.address_at(proxy.port), policy=SOON) as one:
            with proxy.delayed(there=0.1, back=0.1):
                one.call("a-1")
                await one.until(lambda: one.released)
            claim = one.released[0].hold

            assert one.lane.opens_for(claim) - one.now <= 0.25


async def test_without_valkey_what_waits_is_put_out() -> None:
    """Nothing goes out unpaced; when it is back, empty, the lane begins cold and goes on."""
    with valkey() as server:
        async with replica(server.address, policy=SOON) as one:
            one.call("a-1")
            claim = await one.turn()
            server.kill()
            one.call("a-2")
            await one.until(lambda: one.put_out)
            assert one.put_out == ["unpaced a-2"]
            assert not await one.lane_turns.keep(claim)
            server.start()
            await one.until(lambda: one.turns.reachable)
            one.call("a-3")

            assert await one.turn()


async def test_a_pause_of_the_lane_loses_no_place(server: Valkey) -> None:
    """While the lane pauses its replicas go on asking, so that none counts as dead."""
    async with replica(server.address, policy=SOON) as one:
        one.lane.pause(one.now + 100)
        one.lane.limited(one.now, one.now)
        one.call("a-1", within=1_000)
        await one.until(lambda: one.lane.open_from > one.now + 50)
        await asyncio.sleep(0)

        assert one.lane_turns._next_ask({}, one.now) <= one.now + 1


async def test_a_call_whose_time_is_too_short_beside_what_waits_elsewhere_is_told_at_once(server: Valkey) -> None:
    """Not only when its time is over."""
    async with replica(server.address) as one, replica(server.address, one.key) as other:
        for number in range(20):
            one.call(f"a-{number}")
        await other.until(lambda: True)
        while places(server, one.key) < 18:
            await asyncio.sleep(0.01)
        other.call("a-late", within=4)
        await other.until(lambda: other.put_out)

        assert other.put_out == ["late a-late"]
        assert other.now < one.now + 1


async def test_places_that_are_only_kept_are_foretold_too(server: Valkey) -> None:
    """While the lane pauses no turn is claimed, and what waits elsewhere counts all the same."""
    async with replica(server.address) as one, replica(server.address, one.key) as other:
        await one.lane_turns._ask("penalise", 0.1, released=0, pause=5_000_000)
        await other.lane_turns._ask("withdraw", 0.1)
        for number in range(20):
            one.call(f"a-{number}")
        while places(server, one.key) < 20:
            await asyncio.sleep(0.01)
        other.call("a-late", within=8)
        await other.until(lambda: other.put_out)

        assert other.put_out == ["late a-late"]
        assert other.lane.open_from > other.now


async def test_a_slot_without_an_end_is_foretold_by_the_window(server: Valkey) -> None:
    """Under proven pacing a send that has no answer yet doesn't keep new calls out."""
    async with replica(server.address, policy=LanePolicy(per=0.1, pacing=Pacing.PROVEN)) as one:
        one.call("a-1")
        claim = await one.turn()
        one.write(claim)
        await one.until(lambda: NEVER in one.lane.window.ends)

        assert one.lane.wait_after(3, one.now) < 10
        one.answer(claim)


async def test_a_replica_that_ends_leaves_nothing(server: Valkey) -> None:
    """Its places are given up."""
    async with replica(server.address) as one:
        for number in range(5):
            one.call(f"a-{number}")
        while places(server, one.key) < 3:
            await asyncio.sleep(0.01)
        for waiting in list(one.lane.queue):
            one.lane.withdraw(waiting.call_id)

    assert not places(server, one.key)


async def test_a_step_of_the_clock_makes_a_lane_cold_once() -> None:
    """Each replica notices it; who comes to the lane later doesn't hold up what goes on there. Another step does, again."""
    with valkey(clock=faketime()) as server:
        async with replica(server.address) as one, replica(server.address, one.key) as other:
            for each in (one, other):
                await each.lane_turns._ask("withdraw", 0.1)
            for number, ahead in enumerate((5, 10), start=1):
                server.step_clock(ahead)
                for each in (one, other):
                    while each.link.steps < number:
                        await asyncio.sleep(0.01)
                assert (await one.lane_turns._ask("withdraw", 0.1))["cold"]

                assert "cold" not in await other.lane_turns._ask("withdraw", 0.1)
                assert "cold" not in await one.lane_turns._ask("withdraw", 0.1)


async def test_who_looks_sees_what_waits_elsewhere(server: Valkey) -> None:
    """Also in a lane of which nothing is wanted here, and once Valkey is gone, what was known last."""
    async with replica(server.address) as one, replica(server.address, one.key) as other:
        for number in range(5):
            one.call(f"a-{number}")
        while places(server, one.key) < 5:
            await asyncio.sleep(0.01)
        await other.turns.look()

        assert other.lane.waiting_elsewhere == 5
        assert other.lane.open_from > other.now


async def test_who_looks_while_a_turn_is_claimed_leaves_it_its_slot(server: Valkey) -> None:
    """Valkey isn't told of what is under way by somebody who doesn't know yet what was granted."""
    with proxied(server.port) as proxy:
        async with replica(server.address_at(proxy.port)) as one:
            await one.lane_turns._ask("withdraw", 0.1)
            await asyncio.sleep(max(0.0, one.lane.open_from - one.now))
            one.lane_turns._heard = -NEVER
            with proxy.delayed(back=0.2):
                one.call("a-1")
                await asyncio.sleep(0)
                await one.turns.look()
                await one.until(lambda: one.released)
            claim = one.released[0].hold

            assert isinstance(claim, Claim)
            assert claim.id in server.ask("HGET", f"flxpoint-gateway:{{{one.key}}}:lane", "slot1")


async def test_a_replica_that_knows_an_old_rate_takes_no_turn_until_it_knows_the_new_one(server: Valkey) -> None:
    """Its calls wait meanwhile, and the others' go on."""
    old, new = replace(SOON, revision=1), replace(SOON, slots=1, revision=2)
    async with replica(server.address, policy=new) as one, replica(server.address, one.key, old) as other:
        one.call("a-1")
        one.answer(await one.turn())
        other.call("b-1")
        with pytest.raises(LinkDown, match="rate"):
            await other.lane_turns._ask("withdraw", 0.1)
        one.call("a-2")
        one.answer(await one.turn())
        assert not other.released
        other.lane.adopt(new)
        other.lane_turns.wake()

        assert await other.turn()


async def test_a_resume_at_one_replica_reaches_another_that_has_nothing_to_send(server: Valkey) -> None:
    """Who holds calls back asks now and then whether it still must."""
    async with replica(server.address) as one, replica(server.address, one.key) as other:
        for _ in range(3):
            one.lane.refused("link-orders", one.now)
        one.lane_turns.wake()
        while not other.lane.is_held_back:
            await asyncio.sleep(0.01)
            other.lane_turns._heard = -NEVER
            await other.turns.look()
        one.lane.resume()
        one.lane_turns.wake()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while other.lane.is_held_back:
                await asyncio.sleep(0.01)

        assert not one.lane.is_held_back


def test_a_cold_start_waits_for_the_longest_claim() -> None:
    """The scripts know how long a replica may use one at most."""
    micros = round(turns.MOST_USABLE_SECONDS * turns.MICROSECONDS)

    assert f"LONGEST_VALID = {micros} " in script_source("claim")


@pytest.mark.parametrize("trip", [0.0, 0.1, 10.0])
async def test_no_claim_is_usable_for_longer_than_the_longest(server: Valkey, trip: float) -> None:
    """However slow Valkey is."""
    async with replica(server.address) as one:
        one.link.trip = trip

        assert one.lane_turns._usable <= turns.MOST_USABLE_SECONDS
