"""What this folder's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Dialect, open_engine
from tests.servers.postgres import Postgres
from tests.storage.database import address_of, opened


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A database of the newest schema."""
    async with opened(database) as engine:
        yield engine


@pytest_asyncio.fixture(params=list(Dialect))
async def any_engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An empty database: a file, and one of a server."""
    if request.param is Dialect.SQLITE:
        address = address_of(tmp_path / "new.db")
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        address = server.new_database()
    engine = open_engine(address)
    yield engine
    await engine.dispose()
