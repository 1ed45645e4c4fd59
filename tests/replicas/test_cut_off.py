"""What becomes of a replica's audit chain when it is cut off from PostgreSQL for so long that another takes it for dead."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.stage import Cast
from tests.cli.processes import run
from tests.replicas.fleet import Fleet, assembled
from tests.servers.postgres import Postgres, postgres
from tests.servers.proxy import proxied
from tests.servers.valkey import valkey

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAKEN_FOR_DEAD_SECONDS = 60.0
POLL_SECONDS = 0.2


async def test_a_replica_that_comes_back_leaves_a_record_that_holds() -> None:
    """Another has sealed and closed its chain; what it writes after that stands in a new one, and `audit verify` finds nothing."""
    with postgres() as server, valkey() as pacing, proxied(server.port) as network:
        async with assembled(Cast(tokens=["shop"]), server, pacing, replicas=1) as fleet:
            address = fleet.variables["GATEWAY_DATABASE_URL"]
            cut_off = fleet.start(GATEWAY_DATABASE_URL=address.replace(f":{server.port}/", f":{network.port}/"))
            await fleet.ready()
            before = await fleet.ask_all(2, [cut_off])
            chain = _asked(fleet, server, "SELECT max(id) FROM audit_chains WHERE id <> 'administration'")
            with network.partitioned():
                await _closed(fleet, server, chain)
            await fleet.ready(cut_off)
            # By this one it may notice that its chain was ended; then nothing is sent for it.
            await fleet.ask(cut_off)
            after = await fleet.ask_all(2, [cut_off])
            verified = await asyncio.to_thread(run, "audit", "verify", variables=fleet.variables)
            chains = _asked(fleet, server, "SELECT count(*) FROM audit_chains WHERE id <> 'administration'")

    assert all(one.right for one in before + after)
    assert (verified.returncode, int(chains)) == (0, 2), verified.stdout + verified.stderr


async def _closed(fleet: Fleet, server: Postgres, chain: str) -> None:
    async with asyncio.timeout(TAKEN_FOR_DEAD_SECONDS):
        while _asked(fleet, server, f"SELECT closed_at IS NOT NULL FROM audit_chains WHERE id = '{chain}'") != "t":  # noqa: S608
            await asyncio.sleep(POLL_SECONDS)


def _asked(fleet: Fleet, server: Postgres, query: str) -> str:
    return server.ask(query, fleet.variables["GATEWAY_DATABASE_URL"].rpartition("/")[2])[0]
