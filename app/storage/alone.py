"""Serving alone from a PostgreSQL database: a lock in the server, which goes with the connection that holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app.background import kept_running
from app.errors import StartRefused
from app.storage.held import HeldLock
from app.storage.locks import SERVE
from app.storage.postgresql import REFUSALS

__all__ = ["only_server"]

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 10.0

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
    lock = HeldLock(make_url(url), SERVE, _tell, answer_seconds=ANSWER_SECONDS)
    try:
        alone = await lock.hold()
    except (OperationalError, *REFUSALS) as error:
        message = f"GATEWAY_DATABASE_URL: the database can't be used: {error.__cause__ or error}"
        raise StartRefused(message) from error
    try:
        if not alone:
            message = (
                "GATEWAY_DATABASE_URL: another flxpoint-gateway serves from this database; set GATEWAY_VALKEY_URL to serve from several"
            )
            raise StartRefused(message)
        async with kept_running(_keep(lock, on_other)):
            yield
    finally:
        await lock.leave()


def _tell() -> None:
    log.warning("the connection that keeps other processes out is lost")


async def _keep(lock: HeldLock, on_other: Callable[[], None]) -> None:
    """See to it that the lock is held, until another process has it."""
    while await _is_held(lock):
        await asyncio.sleep(LOOK_SECONDS)
    log.error("another process serves from this database, since the connection to it was lost for a while; this one ends")
    on_other()


async def _is_held(lock: HeldLock) -> bool:
    """Whether the lock is this process's own; what can't be told while the server doesn't answer counts as yes."""
    try:
        return await lock.hold()
    except (OperationalError, *REFUSALS):
        return True
    except Exception:
        # The task's outermost edge: without it others might come in unseen.
        log.exception("it can't be found out whether another process serves from this database; trying again")
        return True
