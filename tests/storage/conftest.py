"""What this folder's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.storage.database import migrated


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database of the newest schema."""
    async with migrated(tmp_path / "gateway.db") as engine:
        yield engine
