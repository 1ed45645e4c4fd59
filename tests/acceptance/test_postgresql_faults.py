"""A gateway whose PostgreSQL stands still or crashes: what can't be put on record is refused in time, and all goes on when it is back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.rig import Rig, rigged, until
from tests.servers.postgres import Postgres, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this file's own, since it is stopped here."""
    with postgres() as running:
        yield running


@pytest_asyncio.fixture
async def on_server(server: Postgres, tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway on a database of it."""
    async with rigged(tmp_path, database_url=server.new_database()) as rig:
        yield rig


async def ready(rig: Rig) -> bool:
    """Whether the gateway says that it is."""
    return (await rig.client.get(f"{rig.url}/gateway/health/ready")).is_success


async def test_a_server_that_stands_still_costs_two_seconds(on_server: Rig, server: Postgres) -> None:
    """A call is refused, unsent, and not before it was waited for; when the server goes on, so does the gateway, and nothing is missing."""
    before = (await on_server.link("orderIds=1001")).status_code
    server.pause()
    try:
        refused = await on_server.link("orderIds=1002", Prefer="wait=10")
        answered = await ready(on_server)
    finally:
        server.resume()
    await until(lambda: ready(on_server))
    after = (await on_server.link("orderIds=1003")).status_code

    outcomes = [one["ids"] for one in await on_server.records() if one["name"] == "call:outcome" and one["code"] == "ok"]
    assert (before, refused.status_code, refused.json()["type"].rpartition("/")[2], answered, after) == (
        200,
        503,
        "audit-unavailable",
        False,
        200,
    )
    assert outcomes == [["1001"], ["1003"]]
    assert len(await on_server.arrivals()) == 2


async def test_a_server_that_crashes_and_comes_back(on_server: Rig, server: Postgres) -> None:
    """Calls are refused while it is away; all that was on record still is, and the gateway goes on by itself."""
    await on_server.link("orderIds=1001")
    recorded = await on_server.records()
    server.crash()
    refused = await on_server.link("orderIds=1002", Prefer="wait=10")
    server.start()
    await until(lambda: ready(on_server))
    after = (await on_server.link("orderIds=1003")).status_code

    assert (refused.status_code, after) == (503, 200)
    assert (await on_server.records())[: len(recorded)] == recorded


async def test_a_gateway_ends_beside_a_server_that_stands_still(server: Postgres, tmp_path: Path) -> None:
    """What hangs is left behind, and no failure comes of it."""
    async with rigged(tmp_path, database_url=server.new_database(), shutdown_grace=0):
        server.pause()
    server.resume()

    assert server.ask("SELECT 1") == ["1"]
