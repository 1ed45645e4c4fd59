"""Which one of several processes on a database does what only one is to do.

Where the database is embedded the process that serves is alone, and leads. On PostgreSQL the one leads that holds a lock in the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.background import kept_running
from app.storage.connection import Dialect
from app.storage.held import HeldLock
from app.storage.locks import LEAD
from app.storage.postgresql import REFUSALS

__all__ = ["ALONE", "Lead", "leading"]

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 1.0
BELIEVED_SECONDS = 3.0
"""How long the server's last word counts: a process that stood still may have lost the lock meanwhile, and can't know it yet."""

log = structlog.get_logger(__name__)


class Lead(Protocol):
    """Whether this process is the one; may be asked from every thread."""

    @property
    def leads(self) -> bool:
        """Whether it is now."""

    @property
    def term(self) -> int:
        """How often it has become the one: where that has grown, others may have led in between."""


@asynccontextmanager
async def leading(engine: AsyncEngine) -> AsyncIterator[Lead]:
    """Take part in who leads while the context lasts, and give it up at its end.

    A server that doesn't answer stops no start: nobody leads until it does.
    """
    if engine.dialect.name != Dialect.POSTGRESQL:
        yield ALONE
        return
    candidate = _Candidate(engine)
    await candidate.try_once()
    try:
        async with kept_running(candidate.keep()):
            yield candidate
    finally:
        await candidate.leave()


class _Alone:
    """Always leads: another process is kept out by a lock on the file."""

    leads = True
    term = 1


ALONE: Lead = _Alone()
"""Where there are no others."""


class _Candidate:
    """Leads while it holds the lock, as far as the server has said so in the last 3 s."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._lock = HeldLock(engine.url, LEAD, self._lose, answer_seconds=ANSWER_SECONDS)
        self._believed_until = 0.0
        self._holds = False
        self._complained = False
        self.term = 0

    @property
    def leads(self) -> bool:
        return self._holds and time.monotonic() < self._believed_until

    async def keep(self) -> None:
        """Try again every second."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.try_once()
            except Exception:
                # The task's outermost edge: without it nobody might ever lead again.
                log.exception("it can't be found out who leads, so this process doesn't; trying again")

    async def try_once(self) -> None:
        """Take the lock, or have it confirmed. Where the server doesn't answer others may hold it, so this process doesn't lead."""
        asked_at = time.monotonic()
        try:
            holds = await self._lock.hold()
        except (OperationalError, *REFUSALS) as error:
            if not self._complained:
                log.warning("it can't be found out who leads, so this process doesn't", error=str(error))
            self._complained = True
            return
        self._complained = False
        if holds:
            self._win(asked_at)

    async def leave(self) -> None:
        """Lead no more, so that another does at once."""
        self._holds = False
        await self._lock.leave()

    def _win(self, asked_at: float) -> None:
        self._believed_until = asked_at + BELIEVED_SECONDS
        if not self._holds:
            # The term first: who sees that this process leads must see that others may have before.
            self.term += 1
            self._holds = True
            log.info("this process does from now on what only one is to do: stream, anchoring, retention")

    def _lose(self) -> None:
        if self._holds:
            self._holds = False
            log.warning("this process leads no more: its connection to the database was lost")
