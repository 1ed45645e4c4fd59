from __future__ import annotations

import asyncio

import pytest

from benchmarks.windows import breaches
from tests.replicas.fleet import Fleet

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 8


async def test_replicas_share_one_tokens_turns(fleet: Fleet) -> None:
    """Calls on three replicas arrive two a second in all, each is answered with its own order, and no place is left behind."""
    token = fleet.next_token()
    called = await fleet.ask_all(CALLS, token=token)
    arrivals = await fleet.arrivals(token)

    assert all(one.right for one in called)
    assert len(arrivals) == CALLS
    assert not breaches(arrivals)
    assert not fleet.places()


async def test_a_flood_on_other_replicas_delays_no_single_call(fleet: Fleet) -> None:
    """A caller with one call on one replica is served before nearly all that another has waiting on two others."""
    token = fleet.next_token()
    first, second, third = fleet.living
    flood = asyncio.create_task(fleet.ask_all(2 * CALLS, [first, second], token=token, caller="flood"))
    await fleet.crowded(2 * CALLS - 2)
    single = await fleet.ask(third, token=token, caller="single")
    waiting = fleet.places()
    flood.cancel()
    await asyncio.wait({flood})
    await fleet.deserted()

    assert single.right
    assert waiting > CALLS
    assert not breaches(await fleet.arrivals(token))
