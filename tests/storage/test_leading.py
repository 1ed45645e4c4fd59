"""Which one of several leads, on a real PostgreSQL that is stopped, paused and cuts connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.storage import Lead, leading
from app.storage.postgresql import connect
from tests.rig import until
from tests.servers.postgres import Postgres, postgres
from tests.storage.database import opened

from .database import migrated
from .standby import failing_once, unpromoted


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this file's own, since it doesn't leave it running."""
    with postgres() as running:
        yield running


@pytest.fixture
def address(server: Postgres) -> str:
    """A database of its own: its locks are too."""
    return server.new_database()


@asynccontextmanager
async def candidate(address: str) -> AsyncIterator[Lead]:
    """One of those who may lead, with an engine of its own."""
    async with opened(address) as engine, leading(engine) as lead:
        yield lead


async def one_leads(*leads: Lead) -> None:
    """Wait until exactly one of them leads."""

    async def found() -> bool:
        return sum(lead.leads for lead in leads) == 1

    await until(found)


async def none_leads(*leads: Lead) -> None:
    """Wait until none of them leads."""

    async def found() -> bool:
        return not any(lead.leads for lead in leads)

    await until(found)


async def test_who_has_the_file_leads(tmp_path: Path) -> None:
    """On SQLite there are no others."""
    async with migrated(tmp_path / "gateway.db") as engine, leading(engine) as lead:
        assert (lead.leads, lead.term) == (True, 1)


async def test_the_first_leads(address: str) -> None:
    """It does at once, and the second doesn't as long as it is there."""
    async with candidate(address) as first, candidate(address) as second:
        assert (first.leads, first.term) == (True, 1)
        assert (second.leads, second.term) == (False, 0)


async def test_the_next_leads_when_the_leader_ends(address: str) -> None:
    """Nothing has to be waited for but its next look."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(candidate(address))
        async with candidate(address) as second:
            await stack.aclose()
            await one_leads(second)

            assert (first.leads, second.term) == (False, 1)


async def test_a_cut_connection_ends_the_lead(server: Postgres, address: str) -> None:
    """Whose connection is lost knows that others may have led when it leads again."""
    async with candidate(address) as lead:
        server.cut(address)
        await none_leads(lead)
        await one_leads(lead)

        assert lead.term == 2


async def test_a_cut_connection_is_noticed_by_itself(server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only at the next look, or when the server's last word is too old."""
    monkeypatch.setattr("app.storage.lead.LOOK_SECONDS", 3_600)
    monkeypatch.setattr("app.storage.lead.BELIEVED_SECONDS", 3_600)
    async with candidate(address) as lead:
        server.cut(address)
        await none_leads(lead)

        assert lead.term == 1


async def test_of_two_that_were_cut_off_one_leads(server: Postgres, address: str) -> None:
    """There are never two."""
    async with candidate(address) as one, candidate(address) as other:
        server.cut(address)
        await none_leads(one, other)
        await one_leads(one, other)

        assert one.term + other.term == 2


async def test_a_server_that_is_started_anew(server: Postgres, address: str) -> None:
    """While it is away nobody leads, and no start is refused; then one does."""
    async with candidate(address) as one:
        server.crash()
        await none_leads(one)
        async with candidate(address) as other:
            assert not other.leads
            server.start()
            await one_leads(one, other)


async def test_a_server_that_does_not_answer(server: Postgres, address: str) -> None:
    """Who isn't told that it still leads doesn't, though its connection stands."""
    async with candidate(address) as one:
        server.pause()
        try:
            await none_leads(one)
        finally:
            server.resume()
        await one_leads(one)

        assert one.term == 2


async def test_a_server_that_is_not_promoted_yet(server: Postgres, address: str) -> None:
    """While it can only be read nobody leads, where the address asks for one that may be written; then one does."""
    async with candidate(f"{address}?target_session_attrs=read-write") as one:
        with unpromoted(server, address):
            server.cut(address)
            await none_leads(one)
            async with candidate(f"{address}?target_session_attrs=read-write") as other:
                assert not other.leads
        await one_leads(one)

        assert one.term == 2


async def test_what_nobody_thought_of_ends_no_candidature(server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the lead is taken at the next look."""
    async with candidate(address) as one:
        with capture_logs() as logs:
            monkeypatch.setattr("app.storage.held.connect", failing_once(connect))
            server.cut(address)
            await none_leads(one)
            await one_leads(one)

        assert one.term == 2
    assert [entry["exc_info"] for entry in logs if entry["log_level"] == "error"] == [True]
