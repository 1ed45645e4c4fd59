"""Where the database fails under jobs and keys: what their callers are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import AuditUnavailable

__all__ = ["or_refused", "unavailable"]

RETRY_AFTER_SECONDS = 1.0
LONGEST_SECONDS = 15.0
"""As long as a free connection, a new one, a lock and a statement may take together."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def or_refused(transaction: AbstractAsyncContextManager[AsyncConnection], detail: str) -> AsyncIterator[AsyncConnection]:
    """A transaction for a request, which is refused where the database fails, or takes over 15 s in all.

    Args:
        transaction: the transaction.
        detail: what can't be done then.

    Raises:
        AuditUnavailable: it can't be done now; says when to ask again.
    """
    try:
        async with _bounded(), transaction as connection:
            yield connection
    except SQLAlchemyError as error:
        raise unavailable(error, detail) from error


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    bound = asyncio.timeout(LONGEST_SECONDS)
    try:
        async with bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        message = f"it took over {LONGEST_SECONDS:g} s"
        raise SQLAlchemyError(message) from None


def unavailable(error: SQLAlchemyError, detail: str) -> AuditUnavailable:
    """That the database failed, and this can't be done now; the log has why."""
    log.error("a request for a job or with a key is refused: the database fails", error=str(error.__cause__ or error))
    return AuditUnavailable(f"{detail}; ask again in a moment", retry_after=RETRY_AFTER_SECONDS)
