"""A database and a chain to write to it, and a history that is altered by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Signer
from app.storage import DatabaseThread, Dialect
from tests.audit.altering import InFile, OnServer
from tests.audit.histories import History
from tests.servers.postgres import Postgres
from tests.storage.database import migrated, opened


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database."""
    async with opened(database) as made:
        yield made


@pytest.fixture
def signer() -> Signer:
    """A key that signs checkpoints."""
    return Signer(bytes(range(32)))


@pytest_asyncio.fixture
async def thread(engine: AsyncEngine) -> AsyncIterator[DatabaseThread]:
    """Where the ledger's work is done."""
    made = DatabaseThread(engine)
    yield made
    await made.aclose()


@pytest.fixture
def ledger(thread: DatabaseThread, signer: Signer) -> Ledger:
    """A chain that hasn't begun."""
    return Ledger(thread, signer)


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database's file with the newest schema."""
    path = tmp_path_factory.mktemp("schema") / "gateway.db"

    async def make() -> None:
        async with migrated(path):
            pass

    asyncio.run(make())
    return path


@pytest.fixture(scope="module")
def on_server(postgres_server: Postgres, template: str) -> Iterator[OnServer]:
    """A server's database, for one test after the other."""
    with closing(OnServer(postgres_server, template)) as made:
        yield made


@pytest.fixture(params=list(Dialect))
def empty(request: pytest.FixtureRequest, tmp_path: Path, schema: Path) -> History:
    """A database in which nothing has happened yet: SQLite's, or a server's."""
    if request.param == Dialect.SQLITE:
        (tmp_path / "gateway.db").write_bytes(schema.read_bytes())
        return History(InFile(tmp_path / "gateway.db"))
    database: OnServer = request.getfixturevalue("on_server")
    database.begin_anew()
    return History(database)
