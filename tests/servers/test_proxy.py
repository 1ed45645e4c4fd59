from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkey import Valkey as Client
from valkey.exceptions import ConnectionError, TimeoutError  # noqa: A004 - the client's own

from benchmarks.authority import make_authority
from tests.cli.processes import until
from tests.servers.proxy import Proxy, proxied
from tests.servers.valkey import PASSWORD, USER, Valkey, valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """One server for the file."""
    with valkey() as running:
        yield running


@pytest.fixture
def proxy(server: Valkey) -> Iterator[Proxy]:
    """A proxy before it."""
    with proxied(server.port) as running:
        yield running


def client_of(proxy: Proxy, patience: float = 10.0) -> Client:
    """A client through the proxy that doesn't try again, and waits so many seconds for an answer."""
    return Client("127.0.0.1", proxy.port, username=USER, password=PASSWORD, decode_responses=True, socket_timeout=patience)


def test_what_passes_is_counted(proxy: Proxy) -> None:
    """Three calls, one after the other, are three round trips; commands sent together are one."""
    with client_of(proxy) as client:
        client.ping()
        before = proxy.counted.round_trips
        for _ in range(3):
            client.ping()
        after = proxy.counted.round_trips
        with client.pipeline(transaction=False) as together:
            together.ping()
            together.ping()
            together.execute()

        assert after - before == 3
        assert proxy.counted.round_trips - after == 1
        assert proxy.counted.there
        assert proxy.counted.back


@pytest.mark.parametrize("way", ["there", "back"])
def test_each_way_can_be_slow(proxy: Proxy, way: str) -> None:
    """An answer takes at least the delay, whichever way has it."""
    with client_of(proxy) as client:
        client.ping()
        with proxy.delayed(**{way: 0.1}):
            began = time.monotonic()
            client.ping()

            assert time.monotonic() - began >= 0.1


def test_a_partition_holds_everything_back_and_delivers_it_late(server: Valkey, proxy: Proxy) -> None:
    """Nobody is told; what the client sent, and gave up, reaches the server when it heals."""
    with client_of(proxy, patience=0.2) as client:
        client.ping()
        with proxy.partitioned():
            with pytest.raises(TimeoutError):
                client.set("late", 1)
            assert server.ask("GET", "late") is None

        until(lambda: server.ask("GET", "late") == "1")


def test_a_cut_resets_what_is_connected(proxy: Proxy) -> None:
    """A new connection is taken at once."""
    with client_of(proxy) as client:
        client.ping()
        plain = socket.create_connection(("127.0.0.1", proxy.port))
        until(lambda: proxy.connections == 2)
        proxy.cut()
        with plain, pytest.raises(ConnectionResetError):
            plain.recv(1)

        assert client.ping()


def test_new_connections_can_be_refused(proxy: Proxy) -> None:
    """Those that are there stay; when it takes them again, it is at the same port."""
    with client_of(proxy) as client, client_of(proxy) as late:
        client.ping()
        with proxy.refusing():
            with pytest.raises(ConnectionError):
                late.ping()
            assert client.ping()

        assert late.ping()


def test_a_dead_servers_connections_end(proxy: Proxy) -> None:
    """And new ones are reset, until there is a server again."""
    with valkey() as mortal, proxied(mortal.port) as before, client_of(before) as client:
        client.ping()
        mortal.kill()
        with pytest.raises(ConnectionError):
            client.ping()
        before.aim(proxy.port)

        assert client.ping()


def test_tls_ends_at_the_proxy(server: Valkey, tmp_path: Path) -> None:
    """So that a server without TLS can be asked with it, by who trusts its authority."""
    authority, certificate, key = make_authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with proxied(server.port, tls=context) as proxy:
        address = server.address_at(proxy.port, "rediss")
        with Client.from_url(address, ssl_ca_certs=str(authority)) as client:
            assert client.ping()
        with Client.from_url(address) as strict, pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            strict.ping()
