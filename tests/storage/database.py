"""Real databases for tests, with the newest schema."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Dialect, open_engine
from app.storage.migrate import upgrade

MADE: list[bytes] = []

ON_SQLITE = pytest.mark.parametrize("database", [Dialect.SQLITE], indirect=True)
"""For a test that is about SQLite, or its file."""


def address_of(path: Path) -> str:
    """A database file's address, as SQLAlchemy takes it."""
    return f"sqlite+aiosqlite:///{path}"


@asynccontextmanager
async def opened(where: Path | str) -> AsyncIterator[AsyncEngine]:
    """The engine of a database, by its file or address, as it is; closed at the end."""
    engine = open_engine(where if isinstance(where, str) else address_of(where))
    try:
        yield engine
    finally:
        await engine.dispose()


async def make(path: Path) -> None:
    """Make a database file with the newest schema.

    The migrations run once a process, and each file begins as a copy of what they made.
    """
    if not MADE:
        async with opened(path) as engine:
            await upgrade(engine)
        MADE.append(path.read_bytes())  # noqa: ASYNC240 - a few pages of a local file
    path.write_bytes(MADE[0])  # noqa: ASYNC240 - as above


@asynccontextmanager
async def migrated(path: Path) -> AsyncIterator[AsyncEngine]:
    """The engine of a new database file with the newest schema; closed at the end."""
    await make(path)
    async with opened(path) as engine:
        yield engine
