"""A database and a chain to write to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Signer
from app.storage import DatabaseThread
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
