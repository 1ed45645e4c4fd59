"""What the tests of the configuration file share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.storage.database import opened

from .files import Files, files_in


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A configuration file that declares one token and one caller."""
    return files_in(tmp_path)


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A database of the newest schema."""
    async with opened(database) as engine:
        yield engine
