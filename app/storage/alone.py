"""Serving from a PostgreSQL database alone, or beside others that share turns, never both.

A lock in the server sees to it, which goes with the connection that holds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app.background import kept_running
from app.errors import StartRefused
from app.storage.held import HeldLock
from app.storage.locks import SERVE
from app.storage.postgresql import REFUSALS

__all__ = ["one_of_several", "only_server"]

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a server counts turns. `refusal`: why it can't start beside the other kind; `ended`: why it doesn't go on."""

    shares: bool
    refusal: str
    ended: str


ALONE = _Kind(
    shares=False,
    refusal="GATEWAY_DATABASE_URL: another flxpoint-gateway serves from this database; set GATEWAY_VALKEY_URL to serve from several",
    ended="another process serves from this database, since the connection to it was lost for a while; this one ends",
)
SEVERAL = _Kind(
    shares=True,
    refusal=(
        "GATEWAY_VALKEY_URL: a flxpoint-gateway without it serves from this database and counts turns by itself; end it first, "
        "and set GATEWAY_VALKEY_URL for all"
    ),
    ended="a process without GATEWAY_VALKEY_URL serves from this database, since the connection to it was lost for a while; this one ends",
)


def only_server(url: str, on_other: Callable[[], None]) -> AbstractAsyncContextManager[None]:
    """Keep other processes from serving from this database while the context lasts.

    The lock is lost where the connection is, as when the server is started anew, and is taken again as soon as it answers.

    Args:
        url: the database, as SQLAlchemy takes it.
        on_other: called once another process has taken the lock meanwhile.

    Raises:
        StartRefused: another process serves from it, or the database can't be reached.
    """
    return _serving(url, ALONE, on_other)


def one_of_several(url: str, on_other: Callable[[], None]) -> AbstractAsyncContextManager[None]:
    """The same for a process that shares turns with others: it keeps out those that don't."""
    return _serving(url, SEVERAL, on_other)


@asynccontextmanager
async def _serving(url: str, kind: _Kind, on_other: Callable[[], None]) -> AsyncIterator[None]:
    lock = HeldLock(make_url(url), SERVE, _tell, answer_seconds=ANSWER_SECONDS, shared=kind.shares)
    try:
        held = await lock.hold()
    except (OperationalError, *REFUSALS) as error:
        message = f"GATEWAY_DATABASE_URL: the database can't be used: {error.__cause__ or error}"
        raise StartRefused(message) from error
    try:
        if not held:
            raise StartRefused(kind.refusal)
        async with kept_running(_keep(lock, kind, on_other)):
            yield
    finally:
        await lock.leave()


def _tell() -> None:
    log.warning("the connection that keeps other processes out is lost")


async def _keep(lock: HeldLock, kind: _Kind, on_other: Callable[[], None]) -> None:
    """See to it that the lock is held, until a process has it that mustn't serve beside this one."""
    while await _is_held(lock):
        await asyncio.sleep(LOOK_SECONDS)
    log.error(kind.ended)
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
