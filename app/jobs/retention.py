"""Removing jobs that finished long ago, with all their parts. What their calls did stays on record."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.background import kept_running
from app.jobs.store import JobStore
from app.storage import Lead, writing

__all__ = ["JobRetention"]

FIRST_SECONDS = 300.0
EVERY_SECONDS = 3_600.0
PAUSE_SECONDS = 0.05
JOBS_AT_ONCE = 5
"""A job may have thousands of parts, and while they are removed nobody else can write."""

log = structlog.get_logger(__name__)


class JobRetention:
    """Removes what is past its time.

    Args:
        engine: the database.
        days: how long a job is kept after it has finished.
        lead: whether this process is the one that removes.
    """

    def __init__(self, engine: AsyncEngine, days: int, lead: Lead) -> None:
        self._engine = engine
        self._days = days
        self._lead = lead
        self._store = JobStore()

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Remove in the background while the context lasts: first after 5 minutes, then every hour."""
        return kept_running(self._keep())

    async def sweep(self) -> int:
        """Remove all that is past its time, a few jobs in a transaction; gives how many went.

        Raises:
            SQLAlchemyError: the database refused. What is gone is gone.
        """
        before, removed = (datetime.now(UTC) - timedelta(days=self._days)).isoformat(timespec="microseconds"), 0
        while some := await self._sweep_some(before):
            removed += some
            await asyncio.sleep(PAUSE_SECONDS)
        return removed

    async def _sweep_some(self, before: str) -> int:
        async with writing(self._engine) as connection:
            return await self._store.sweep(connection, before, most=JOBS_AT_ONCE)

    async def _keep(self) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                if self._lead.leads and (removed := await self.sweep()):
                    log.info("jobs that finished long ago were removed", jobs=removed)
            except Exception:
                # The task's outermost edge: what is left is removed at the next look.
                log.exception("old jobs can't be removed")
            await asyncio.sleep(EVERY_SECONDS)
