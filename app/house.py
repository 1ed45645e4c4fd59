"""The running gateway: what it knows, kept fresh, and how it ends."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api import Services
from app.audit import AuditLog, GroupWriter
from app.background import kept_running
from app.callers import Directory
from app.dispatch import Dispatcher
from app.jobbing import JobRunner
from app.jobs import Followers
from app.storage import current_revision, reading
from app.vault import Vault

__all__ = ["House"]

REFRESH_SECONDS = 0.5

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class House:
    """The running gateway: what it knows, kept fresh, and how it ends."""

    engine: AsyncEngine
    vault: Vault
    directory: Directory
    dispatcher: Dispatcher
    audit: AuditLog
    writer: GroupWriter
    grace: float
    services: Services = field(init=False)
    jobs: JobRunner = field(init=False)
    followers: Followers = field(init=False)
    _revision: int = -1
    _fresh: bool = False
    _draining: bool = False
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def reasons(self) -> list[str]:
        """Why traffic should not come here; empty when ready."""
        states = {
            "shutting down": self._draining,
            "audit records can't be written": not self.audit.healthy,
            "tokens and callers can't be read": not self._fresh,
            "turns can't be taken": not self.dispatcher.reachable,
        }
        return [reason for reason, holds in states.items() if holds]

    def begin_shutdown(self) -> None:
        """Be not ready from now on, and let go who follows jobs; after the grace time put the calls that still wait out, unsent."""
        if not self._draining:
            self._draining = True
            self.jobs.rest()
            self.followers.close()
            asyncio.get_running_loop().call_later(self.grace, self.dispatcher.close)

    async def drained(self) -> None:
        """At a shutdown that has begun, wait until every call has its end; those that still wait have it when the grace time is over.

        The server waits for its connections only, and no part of a job holds one.
        """
        if self._draining:
            await self.services.gateway.finish()

    async def refresh(self) -> None:
        """Read tokens and callers anew if they have changed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database can't be read.
        """
        # One at a time: of two, the one that read first could be the last to be used.
        async with self._refreshing:
            async with reading(self.engine) as connection:
                revision = await current_revision(connection)
                if revision != self._revision:
                    tokens, callers = await self.vault.read(connection), await self.directory.read(connection)
            # From here to the end without a pause: no value may go out before its lane is known, and who sees the change
            # sees the gateway ready.
            if revision != self._revision:
                self.vault.use(tokens)
                self.directory.use(callers)
                self.dispatcher.know(self.vault.tokens, revision)
                self._revision = revision
            self._fresh = True

    async def heed_changes(self) -> bool:
        """Refresh, and tell whether that worked. While it fails the gateway goes on with what it knows, and is not ready."""
        try:
            await self.refresh()
        except Exception:
            # The outermost edge of a task, or of a change that is made: whatever fails, it goes on with what is known.
            self._fresh = False
            log.exception("tokens and callers can't be read; going on with those known")
        return self._fresh

    def kept_fresh(self) -> AbstractAsyncContextManager[None]:
        """Refresh in the background while the context lasts. At its end no reading is under way: the database may be closed."""
        return kept_running(self._keep_fresh())

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.heed_changes()

    async def close(self) -> None:
        """End in the order of the promises: nothing more is sent, what is under way is awaited, everything is on record."""
        self.dispatcher.close()
        await self.dispatcher.finish()
        await self.services.gateway.finish()
        await self.jobs.finish()
        self.audit.flush()
        await self.writer.aclose()
