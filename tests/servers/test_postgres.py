from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.servers.postgres import Postgres, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One server for the file."""
    with postgres() as running:
        yield running


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[AsyncConnection]:
    """A connection to a database, by the address that the gateway takes."""
    engine = create_async_engine(address)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def test_each_database_is_empty_and_apart(server: Postgres) -> None:
    """What one test writes, no other sees."""
    async with connected(server.new_database()) as one:
        await one.execute(text("CREATE TABLE calls (id integer)"))
        await one.commit()
    async with connected(server.new_database()) as other:
        found = await other.scalar(text("SELECT count(*) FROM pg_tables WHERE tablename = 'calls'"))

    assert found == 0


def test_what_was_committed_outlives_a_kill(server: Postgres) -> None:
    """After `kill -9` the next start has it."""
    server.ask("CREATE TABLE killed (id integer); INSERT INTO killed VALUES (7)")
    server.kill()
    server.start()

    assert server.ask("SELECT id FROM killed") == ["7"]


def test_what_was_committed_outlives_a_crash(server: Postgres) -> None:
    """After an immediate stop the next start has it, at the same port; in between nobody answers."""
    server.ask("CREATE TABLE crashed (id integer); INSERT INTO crashed VALUES (8)")
    server.crash()
    with pytest.raises(subprocess.CalledProcessError):
        server.ask("SELECT 1")
    server.start()

    assert server.ask("SELECT id FROM crashed") == ["8"]
    assert server.ask("SHOW fsync") == ["on"]


async def test_a_paused_server_answers_nothing_until_it_goes_on(server: Postgres) -> None:
    """Its connections stay, and what was asked is answered when it is resumed."""
    async with connected(server.new_database()) as connection:
        with server.paused():
            answer = asyncio.create_task(connection.scalar(text("SELECT 1")))
            answered, _ = await asyncio.wait({answer}, timeout=0.2)

        assert not answered
        assert await answer == 1
