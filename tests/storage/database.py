"""A real database for a test: a SQLite file with the newest schema."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import open_engine
from app.storage.migrate import upgrade

MADE: list[bytes] = []


def address_of(path: Path) -> str:
    """A database file's address, as SQLAlchemy takes it."""
    return f"sqlite+aiosqlite:///{path}"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[AsyncEngine]:
    """The engine of a database file, as it is; closed at the end."""
    engine = open_engine(address_of(path))
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def migrated(path: Path) -> AsyncIterator[AsyncEngine]:
    """The engine of a new database file with the newest schema; closed at the end.

    The migrations run once a process, and each file begins as a copy of what they made.
    """
    if not MADE:
        async with opened(path) as engine:
            await upgrade(engine)
        MADE.append(path.read_bytes())  # noqa: ASYNC240 - a few pages of a local file
    path.write_bytes(MADE[0])  # noqa: ASYNC240 - as above
    async with opened(path) as engine:
        yield engine
