"""What keeps servers apart that count turns each by itself, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from app.errors import StartRefused
from app.storage.alone import only_server
from tests.servers.postgres import Postgres, postgres
from tests.storage.standby import unpromoted


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

        await _locked(server, address)


async def _said(capfd: pytest.CaptureFixture[str], text: str) -> None:
    said = ""
    while text not in said:
        said += "".join(capfd.readouterr())
        await asyncio.sleep(0.01)


async def _locked(server: Postgres, address: str) -> None:
    """Wait until somebody has a lock of the database's."""
    while not server.ask("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'", address.rpartition("/")[2]):
        await asyncio.sleep(0.05)
