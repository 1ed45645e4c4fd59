"""Work that goes on in the background while something lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

__all__ = ["hears", "kept_running"]


@asynccontextmanager
async def kept_running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do the work while the context lasts. At its end the work is cancelled, and nothing of it is under way any more."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def hears(sign: asyncio.Event, within: float) -> bool:
    """Wait for a sign, for so many seconds at most, and take it down; whether it was given."""
    try:
        async with asyncio.timeout(within):
            await sign.wait()
    except TimeoutError:
        return False
    sign.clear()
    return True
