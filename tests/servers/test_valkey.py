from __future__ import annotations

from collections.abc import Iterator

import pytest
from valkey import Valkey as Client
from valkey.exceptions import AuthenticationError, ConnectionError, TimeoutError  # noqa: A004 - the client's own

from tests.cli.processes import until
from tests.servers.valkey import GROUP, PASSWORD, USER, Valkey, faketime, sentinel, valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """One server for the file."""
    with valkey() as running:
        yield running


def seconds(server: Valkey) -> float:
    """What a server's clock shows, as a script sees it."""
    whole, micros = server.ask("EVAL", "return redis.call('TIME')", 0)
    return int(whole) + int(micros) / 1e6


def test_only_its_user_is_let_in(server: Valkey) -> None:
    """The address that the gateway gets has the user's name and password in it; without, nothing is answered."""
    with Client.from_url(server.address) as client:
        assert client.ping()
    with Client("127.0.0.1", server.port) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()


def test_started_again_it_is_empty_and_another_run(server: Valkey) -> None:
    """At the same port, with nothing in it, and a `run_id` of its own."""
    server.ask("SET", "turn", 1)
    before = server.ask("INFO", "server")["run_id"]
    with server.away(), pytest.raises(ConnectionError):
        server.ask("PING")

    assert server.ask("GET", "turn") is None
    assert server.ask("INFO", "server")["run_id"] != before


def test_paused_it_answers_nothing_until_it_goes_on(server: Valkey) -> None:
    """Its connections stay."""
    with Client.from_url(server.address, socket_timeout=0.2) as client:
        client.ping()
        with server.paused(), pytest.raises(TimeoutError):
            client.ping()

        assert client.ping()


def test_a_replica_takes_the_place_of_a_dead_server() -> None:
    """The Sentinel names it within a few seconds, and it has what the dead one had."""
    with valkey() as first, valkey(of=first) as second, sentinel(first) as watcher:
        until(second.is_replica_in_step)
        until(lambda: watcher.ask("SENTINEL MASTER", GROUP)["num-slaves"] == 1)
        first.ask("SET", "turn", 1)
        until(lambda: second.ask("GET", "turn"))
        first.kill()
        until(lambda: watcher.ask("SENTINEL GET-MASTER-ADDR-BY-NAME", GROUP) == ("127.0.0.1", second.port))
        until(lambda: second.ask("ROLE")[0] == "master")

        assert second.ask("GET", "turn") == "1"


def test_its_clock_can_be_stepped_while_it_runs() -> None:
    """Scripts see the new time at once."""
    with valkey(clock=faketime()) as server:
        before = seconds(server)
        server.step_clock(5)

        assert 5 <= seconds(server) - before < 6


def test_addresses_carry_what_the_gateway_needs(server: Valkey) -> None:
    """A user, a password, and the port of a proxy where one stands between."""
    assert server.address_at(7, "rediss") == f"rediss://{USER}:{PASSWORD}@127.0.0.1:7/0"
