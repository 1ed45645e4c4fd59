"""What all tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from hypothesis import Phase, settings

from tests.rig import Rig, rigged

settings.register_profile("brief", phases=[Phase.explicit, Phase.generate], database=None)
"""For mutation testing, which asks whether a test fails, not for the smallest example: `--hypothesis-profile=brief`."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: object) -> AsyncIterator[Rig]:
    """One gateway for a whole test file, so that its lane's cold start is waited for once."""
    folder: Path = tmp_path_factory.mktemp("state")  # type: ignore[attr-defined]
    async with rigged(folder) as running:
        yield running
