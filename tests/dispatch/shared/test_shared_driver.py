"""The driver over a real Valkey: what its calls are told of what other replicas found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.dispatch import Dispatcher
from app.dispatch.shared import Link, SharedTurns, valkey_connections
from app.errors import WaitTooLong
from tests.calls import SHOP
from tests.cli.processes import PATIENCE_SECONDS
from tests.dispatch.senders import Sender, Senders, now_call, submit
from tests.dispatch.shared.replica import replica
from tests.servers.valkey import Valkey


@asynccontextmanager
async def dispatching(address: str) -> AsyncIterator[Dispatcher]:
    """A dispatcher that shares the shop's lane."""
    link = Link(valkey_connections(address))
    turns = SharedTurns(link, time.monotonic)
    dispatcher = Dispatcher(time.monotonic, Senders(), turns=turns)
    dispatcher.know([SHOP])
    async with link.kept():
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not link.connected:
                await asyncio.sleep(0.01)
        yield dispatcher
        dispatcher.close()
        await dispatcher.finish()


async def test_a_pause_that_another_replica_found_is_told_at_once_to_those_who_have_less_time(server: Valkey) -> None:
    """Nobody waits for what can't come any more: the others may still go elsewhere."""
    async with dispatching(server.address) as dispatcher, replica(server.address, SHOP.lane) as other:
        waiting = asyncio.create_task(submit(dispatcher, now_call(wait=30), Sender()))
        await asyncio.sleep(0)
        other.lane.pause(other.now + 60)
        other.lane.limited(other.now, other.now)
        other.lane_turns.wake()

        with pytest.raises(WaitTooLong, match="pauses"):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await waiting
