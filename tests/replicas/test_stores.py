"""What happens to the stores that replicas share: PostgreSQL away or standing still, and a Valkey whose replica takes its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import pytest
import pytest_asyncio

from benchmarks.stage import Cast
from benchmarks.windows import breaches
from tests.cli.processes import until
from tests.replicas.fleet import Fleet, assembled
from tests.servers.postgres import Postgres, postgres
from tests.servers.valkey import GROUP, sentinel, valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 9
TOKENS = 6
UNDER_WAY_SECONDS = 0.5
"""How long what was on record already may take to arrive."""
TOLD_WITHIN_SECONDS = 15.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Fleet]:
    """Two replicas with a PostgreSQL of their own, and a Valkey that a Sentinel watches."""
    with postgres() as server, valkey() as first, valkey(of=first) as second, sentinel(first) as watcher:
        until(second.is_replica_in_step)
        until(lambda: watcher.ask("SENTINEL MASTER", GROUP)["num-slaves"] == 1)
        cast = Cast(tokens=[f"shop-{number}" for number in range(TOKENS)], environment={"GATEWAY_VALKEY_URL": watcher.address_of_group})
        async with assembled(cast, server, first, replicas=2) as running:
            yield running


@pytest.mark.parametrize("fault", [Postgres.away, Postgres.paused], ids=["away", "standing still"])
async def test_without_postgresql_nothing_is_sent(fleet: Fleet, fault: Callable[[Postgres], AbstractContextManager[None]]) -> None:
    """What can't be put on record is refused, by every replica; when PostgreSQL is back, calls go on."""
    token = fleet.next_token()
    waiting = asyncio.create_task(fleet.ask_all(CALLS, token=token))
    await fleet.arrived(2, token)
    with fault(fleet.postgres):
        gone = time.monotonic()
        async with asyncio.timeout(TOLD_WITHIN_SECONDS):
            late = await fleet.ask_all(len(fleet.living), token=token)
            told = await waiting
        sent = await fleet.arrivals(token)
    await fleet.ready()
    after = await fleet.ask_all(3, token=token)

    assert {one.problem for one in late} == {"audit-unavailable"}
    assert {one.problem for one in told if not one.right} == {"audit-unavailable"}
    assert all(one < gone + UNDER_WAY_SECONDS for one in sent)
    assert all(one.right for one in after)
    assert not breaches(await fleet.arrivals(token))


async def test_a_replica_of_valkey_takes_its_place(fleet: Fleet) -> None:
    """The gateway's replicas find the new one by Sentinel, and the lane begins cold, since the last sends may not be known there."""
    token = fleet.next_token()
    waiting = asyncio.create_task(fleet.ask_all(CALLS, token=token))
    await fleet.arrived(3, token)
    fleet.valkey.kill()
    told = await waiting
    await fleet.ready()
    after = await fleet.ask_all(3, token=token)

    assert {one.problem for one in told if not one.right} <= {"pacing-unavailable"}
    assert all(one.right for one in after)
    assert not breaches(await fleet.arrivals(token))
