"""What keeps servers apart that count turns each by itself, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from app.errors import StartRefused
from app.storage.alone import one_of_several, only_server
from app.storage.postgresql import connect
from tests.rig import until
from tests.servers.postgres import Postgres, postgres
from tests.servers.proxy import proxied
from tests.storage.standby import failing_once, unpromoted


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this file's own, since connections to it are cut."""
    with postgres() as running:
        yield running


@pytest.fixture
def address(server: Postgres) -> str:
    """A database of its own: its locks are too."""
    return server.new_database()


async def test_a_server_that_is_not_promoted_yet_is_watched_on(
    server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The lock is taken as soon as it may be written again, and keeps others out as before."""
    monkeypatch.setattr("app.storage.alone.LOOK_SECONDS", 0.05)
    wanted = f"{address}?target_session_attrs=read-write"
    async with only_server(wanted, lambda: None):
        with unpromoted(server, address):
            server.cut(address)
            await _said(capfd, "is lost")
            with pytest.raises(StartRefused, match=r"^GATEWAY_DATABASE_URL: the database can't be used: None of the hosts match"):
                await only_server(wanted, lambda: None).__aenter__()

        await until(lambda: _is_other([], [], server, address))


async def test_what_nobody_thought_of_ends_no_watch(server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the lock is taken at the next look."""
    monkeypatch.setattr("app.storage.alone.LOOK_SECONDS", 0.05)
    async with only_server(address, lambda: None):
        with capture_logs() as logs:
            monkeypatch.setattr("app.storage.held.connect", failing_once(connect))
            before = _holders(server, address)
            server.cut(address)
            await until(lambda: _is_other(before, [], server, address))

    assert [one["exc_info"] for one in logs if one["log_level"] == "error"] == [True]


async def test_who_was_cut_off_silently_takes_the_lock_from_its_own_old_session(
    server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server still counts the connection as there, and that is no other process."""
    monkeypatch.setattr("app.storage.alone.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("app.storage.alone.ANSWER_SECONDS", 0.3)
    others: list[str] = []
    with proxied(server.port) as proxy:
        through = server.address_of(_name(address), proxy.port)
        async with only_server(through, lambda: others.append("came")):
            before = _holders(server, address)
            proxy.strand()
            await until(lambda: _is_other(before, others, server, address))

            assert (others, len(before)) == ([], 1)
        await until(lambda: _is_free(server, address))


async def test_servers_of_both_kinds_never_serve_together(address: str) -> None:
    """Those that share turns serve side by side; one that counts them by itself isn't let in beside them, nor they beside it."""
    async with one_of_several(address, lambda: None), one_of_several(address, lambda: None):
        with pytest.raises(StartRefused, match=r"^GATEWAY_DATABASE_URL: another flxpoint-gateway serves .* set GATEWAY_VALKEY_URL"):
            await only_server(address, lambda: None).__aenter__()
    async with only_server(address, lambda: None):
        with pytest.raises(StartRefused, match=r"^GATEWAY_VALKEY_URL: a flxpoint-gateway without it serves from .* end it first"):
            await one_of_several(address, lambda: None).__aenter__()


async def test_one_of_several_comes_back(server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose connection was cut takes its share of the lock again, though others have theirs."""
    monkeypatch.setattr("app.storage.alone.LOOK_SECONDS", 0.05)
    others: list[str] = []

    async def both_are_back() -> bool:
        return bool(others) or len(set(_holders(server, address)) - before) == 2

    async with one_of_several(address, lambda: others.append("came")), one_of_several(address, lambda: others.append("came")):
        before = set(_holders(server, address))
        server.cut(address)
        await until(both_are_back)

        assert others == []


async def test_one_of_several_ends_where_one_that_counts_by_itself_came_first(
    server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had lost its connection for a while."""
    monkeypatch.setattr("app.storage.alone.LOOK_SECONDS", 0.05)
    others: list[str] = []

    async def came() -> bool:
        return bool(others)

    with proxied(server.port) as proxy:
        async with one_of_several(server.address_of(_name(address), proxy.port), lambda: others.append("came")):
            with proxy.refusing():
                proxy.cut()
                await until(lambda: _is_free(server, address))
                counting = only_server(address, lambda: None)
                await counting.__aenter__()
            await until(came)
            await counting.__aexit__(None, None, None)

    assert others == ["came"]


async def _is_other(before: list[str], others: list[str], server: Postgres, address: str) -> bool:
    return bool(others) or _holders(server, address) not in ([], before)


async def _is_free(server: Postgres, address: str) -> bool:
    return _holders(server, address) == []


async def _said(capfd: pytest.CaptureFixture[str], text: str) -> None:
    said = ""
    while text not in said:
        said += "".join(capfd.readouterr())
        await asyncio.sleep(0.01)


def _name(address: str) -> str:
    return address.rpartition("/")[2]


def _holders(server: Postgres, address: str) -> list[str]:
    """The sessions that have an advisory lock of the database's."""
    mine = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return server.ask(f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND {mine}", _name(address))  # noqa: S608
