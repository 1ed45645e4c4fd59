"""The link to Valkey over a real server, and what becomes of it when the server, or the way there, fails."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.dispatch.shared.link import ClockStepped, LinkDown
from benchmarks.authority import make_authority
from tests.cli.processes import PATIENCE_SECONDS, until
from tests.dispatch.shared.contact import linked
from tests.servers.proxy import proxied
from tests.servers.valkey import GROUP, PASSWORD, USER, Valkey, faketime, sentinel, valkey


async def told(logs: list[Any]) -> None:
    """Wait until something was logged."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not logs:
            await asyncio.sleep(0.01)


async def test_a_script_is_run(server: Valkey) -> None:
    """Its reply comes, and how long that took is known."""
    async with linked(server.address) as watched:
        reply = await watched.ask()

        assert reply["waiting"] == 0
        assert watched.link.trip > 0


async def test_a_lost_connection_fails_what_is_under_way_and_is_made_anew(server: Valkey) -> None:
    """Whether the script ran isn't known, so its caller hears that; the next one goes over a new connection."""
    with proxied(server.port) as proxy:
        async with linked(server.address_at(proxy.port)) as watched:
            await watched.ask()
            with proxy.partitioned():
                under_way = asyncio.create_task(watched.ask())
                await asyncio.sleep(0)
                proxy.cut()
                with pytest.raises(LinkDown):
                    await under_way

            assert await watched.ask()


async def test_a_server_that_answers_nothing_is_not_reachable() -> None:
    """Its connection stands, and new ones are taken, but nothing is heard; when it goes on it is reachable again."""
    with valkey() as server:
        async with linked(server.address) as watched:
            await watched.ask()
            server.pause()
            async with asyncio.timeout(10):
                await watched.until(lambda link: not link.reachable)
            server.resume()
            await watched.until(lambda link: link.reachable)

            assert await watched.ask()


async def test_forgotten_scripts_are_loaded_again(server: Valkey) -> None:
    """`SCRIPT FLUSH` costs the asker one attempt, and is no defect."""
    async with linked(server.address) as watched:
        await watched.ask()
        server.ask("SCRIPT", "FLUSH")
        with capture_logs() as logs, pytest.raises(LinkDown, match="No matching script"):
            await watched.ask()
        with capture_logs() as later:
            assert await watched.ask()

        assert not [entry for entry in (*logs, *later) if "defect" in entry["event"]]


async def test_a_server_that_is_full_is_not_reachable() -> None:
    """It answers, but takes no turn; once it has room it is used again."""
    with valkey() as server:
        async with linked(server.address) as watched:
            await watched.ask()
            server.ask("CONFIG", "SET", "maxmemory", 1)
            with pytest.raises(LinkDown, match="maxmemory"):
                await watched.ask(wants=[{"flow": "interactive:a", "count": 1, "weight": 1}])
            await watched.until(lambda link: not link.reachable)
            server.ask("CONFIG", "SET", "maxmemory", 0)
            await watched.until(lambda link: link.reachable)

            assert await watched.ask()


async def test_a_replica_that_only_reads_is_not_used() -> None:
    """It can't give turns: there is no contact."""
    with valkey() as first, valkey(of=first) as second:
        until(second.is_replica_in_step)
        with capture_logs() as logs:
            async with linked(second.address) as watched:
                await told(logs)

                assert not watched.link.connected
                assert not watched.link.reachable
        assert "read only" in logs[0]["error"]


@pytest.mark.parametrize("address", ["valkey://gateway:wrong-secret@127.0.0.1:{port}/0", "redis://:wrong-secret@127.0.0.1:{port}"])
async def test_a_wrong_password_is_told_without_it(server: Valkey, address: str) -> None:
    """The log says what the server said, and neither it nor anything's repr holds the password."""
    with capture_logs() as logs:
        async with linked(address.format(port=server.port)) as watched:
            await told(logs)
            shown = f"{logs} {watched.link!r} {watched.link._connections()!r}"

    assert "invalid username-password pair" in logs[0]["error"]
    assert "wrong-secret" not in shown


async def test_nobody_there_is_told_without_the_password() -> None:
    """The log names host and port."""
    with valkey() as server:
        address = server.address
    with capture_logs() as logs:
        async with linked(address):
            await told(logs)

    assert str(server.port) in logs[0]["error"]
    assert PASSWORD not in str(logs)


async def test_tls_is_verified_by_a_private_authority(server: Valkey, tmp_path: Path) -> None:
    """`rediss://` with the authority's certificate in the query reaches a server whose certificate it signed, and no other."""
    authority, certificate, key = make_authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with proxied(server.port, tls=context) as proxy:
        address = server.address_at(proxy.port, "rediss")
        async with linked(f"{address}?ssl_ca_certs={authority}") as watched:
            assert await watched.ask()
        with capture_logs() as logs:
            async with linked(address) as watched:
                await told(logs)

                assert not watched.link.connected
        assert PASSWORD not in str(logs)


async def test_sentinel_leads_to_whoever_took_the_place() -> None:
    """After a failover scripts run in the new server, which is another run, without a word of a clock that jumped."""
    with valkey() as first, valkey(of=first) as second, sentinel(first) as watcher:
        until(second.is_replica_in_step)
        until(lambda: watcher.ask("SENTINEL MASTER", GROUP)["num-slaves"] == 1)
        of_sentinel = f"sentinel_username={USER}&sentinel_password={PASSWORD}"
        address = f"valkey+sentinel://{USER}:{PASSWORD}@127.0.0.1:{watcher.port}/{GROUP}/0?{of_sentinel}"
        async with linked(address) as watched:
            assert (await watched.ask())["cold"]
            assert "cold" not in await watched.ask()
            first.kill()
            await watched.until(lambda link: not link.connected)

            assert (await watched.ask())["cold"]
            assert watched.link.steps == 0


async def test_a_sentinel_that_answers_nothing_is_passed_over() -> None:
    """The next one is asked, within the time that connecting may take."""
    with valkey() as server, sentinel(server) as mute, sentinel(server) as watcher:
        until(lambda: watcher.ask("SENTINEL MASTER", GROUP)["flags"] == "master")
        address = watcher.address_of_group.replace("@", f"@127.0.0.1:{mute.port},")
        with mute.paused(), capture_logs() as logs:
            async with linked(address) as watched:
                assert await watched.ask()

        assert not [entry for entry in logs if entry["event"] == "no contact with Valkey"]


async def test_a_sentinel_that_refuses_is_asked_last_the_next_time() -> None:
    """One that isn't a Sentinel at all keeps the others from being asked only once."""
    with valkey() as server, valkey() as stranger, sentinel(server) as watcher:
        address = watcher.address_of_group.replace("@", f"@127.0.0.1:{stranger.port},")
        async with linked(address) as watched:
            assert await watched.ask()


async def test_a_step_of_the_servers_clock_is_noticed() -> None:
    """Whichever answer shows it first: what came with that answer isn't believed."""
    with valkey(clock=faketime()) as server:
        async with linked(server.address) as watched:
            await watched.ask()
            server.step_clock(5)
            await watched.until(lambda link: link.steps == 1)
            server.step_clock(0)
            await watched.until(lambda link: link.steps == 2)

            assert await watched.ask()


async def test_nothing_asked_before_a_step_was_noticed_is_believed() -> None:
    """Of two scripts under way at the step the first shows it; the second ran on the new clock without knowing that it jumped."""
    with valkey(clock=faketime()) as server:
        async with linked(server.address) as watched:
            await watched.ask()
            with server.paused():
                asked = [asyncio.create_task(watched.ask()) for _ in range(2)]
                await asyncio.sleep(0)
                server.step_clock(5)
            ends = await asyncio.gather(*asked, return_exceptions=True)

            assert [type(end) for end in ends] == [ClockStepped, ClockStepped]
            assert await watched.ask()
