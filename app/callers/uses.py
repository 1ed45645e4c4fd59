"""When gateway keys were used last: noted in memory, written now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.background import kept_running
from app.callers.keyrows import keep_uses
from app.storage import writing

__all__ = ["KeyUses"]

WRITTEN_EVERY_SECONDS = 60.0

log = structlog.get_logger(__name__)


class KeyUses:
    """Notes uses, and writes them in a transaction of their own: at most once a minute, and at the end.

    Args:
        engine: the database.
        clock: seconds since the epoch.
        every: seconds between two writings.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.time, every: float = WRITTEN_EVERY_SECONDS) -> None:
        self._engine = engine
        self._clock = clock
        self._every = every
        self._noted: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """The key was used just now."""
        self._noted[key_id] = self._clock()

    async def write(self) -> None:
        """Write what was noted. If that fails it is logged, and what was noted is kept for the next time: no call may fail of it."""
        noted = dict(self._noted)
        if not noted:
            return
        try:
            async with writing(self._engine) as connection:
                await keep_uses(connection, noted)
        except Exception:
            # The outermost edge of a task that must go on.
            log.exception("the last uses of keys can't be written; trying again with the next")
            return
        self._noted = {key: at for key, at in self._noted.items() if noted.get(key) != at}

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Self]:
        """Write time and again while the context lasts, and at its end."""
        try:
            async with kept_running(self._keep_writing()):
                yield self
        finally:
            await self.write()

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.write()
