"""Serving alone from a PostgreSQL database: a lock in the server, which goes with the connection that holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app.background import kept_running
from app.errors import StartRefused
from app.storage.locks import SERVE
from app.storage.postgresql import REFUSALS, connect, leave

__all__ = ["only_server"]

LOOK_SECONDS = 1.0
TAKE = f"SELECT pg_try_advisory_lock({SERVE})"

log = structlog.get_logger(__name__)


@asynccontextmanager
async def only_server(url: str, on_other: Callable[[], None]) -> AsyncIterator[None]:
    """Keep other processes from serving from this database while the context lasts.

    The lock is lost where the connection is, as when the server is started anew, and is taken again as soon as it answers.

    Args:
        url: the database, as SQLAlchemy takes it.
        on_other: called once another process has taken the lock meanwhile.

    Raises:
        StartRefused: another process serves from it, or the database can't be reached.
    """
    held = _Held(url, on_other)
    try:
        alone = await held.take()
    except OperationalError as error:
        message = f"GATEWAY_DATABASE_URL: the database can't be used: {error.__cause__ or error}"
        raise StartRefused(message) from error
    try:
        if not alone:
            message = (
                "GATEWAY_DATABASE_URL: another flxpoint-gateway serves from this database; set GATEWAY_VALKEY_URL to serve from several"
            )
            raise StartRefused(message)
        async with kept_running(held.keep()):
            yield
    finally:
        await held.leave()


class _Held:
    """The lock, and the connection that holds it."""

    def __init__(self, url: str, on_other: Callable[[], None]) -> None:
        self._url = make_url(url)
        self._on_other = on_other
        self._connection: Any = None

    async def take(self) -> bool:
        """Connect and try to take the lock; gives whether that worked.

        Raises:
            OperationalError: the server can't be reached.
        """
        self._connection = await connect(self._url)
        return bool(await self._connection.fetchval(TAKE))

    async def keep(self) -> None:
        """See to it that the lock is held, until another process has it."""
        while await self._is_held():
            await asyncio.sleep(LOOK_SECONDS)
        log.error("another process serves from this database, since the connection to it was lost for a while; this one ends")
        self._on_other()

    async def leave(self) -> None:
        """Give the lock up."""
        if self._connection is not None:
            await leave(self._connection)

    async def _is_held(self) -> bool:
        """Whether the lock is this process's own; what can't be told while the server doesn't answer counts as yes."""
        try:
            if not self._connection.is_closed():
                await self._connection.fetchval("SELECT 1")
                return True
        except REFUSALS as error:
            log.warning("the connection that keeps other processes out is lost", error=str(error))
        self._connection.terminate()
        try:
            return await self.take()
        except (OperationalError, *REFUSALS):
            return True
