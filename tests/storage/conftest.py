"""What this folder's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Dialect
from tests.servers.postgres import Postgres
from tests.storage.database import address_of, opened


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A database of the newest schema."""
    async with opened(database) as engine:
        yield engine


@pytest.fixture(params=list(Dialect))
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without any table: SQLite's file isn't there yet."""
    if request.param == Dialect.SQLITE:
        return address_of(tmp_path / "new.db")
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest_asyncio.fixture
async def empty_engine(empty: str) -> AsyncIterator[AsyncEngine]:
    """Such a database."""
    async with opened(empty) as engine:
        yield engine
