"""One number that grows with every change to tokens and callers, so that a server sees cheaply that it must read them again."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import revision

__all__ = ["current_revision", "touch_revision"]


async def current_revision(connection: AsyncConnection) -> int:
    """The number as of this transaction."""
    return int((await connection.execute(select(revision.c.number))).scalar_one())


async def touch_revision(connection: AsyncConnection) -> None:
    """Make every server read tokens and callers again, once this transaction is committed."""
    await connection.execute(update(revision).values(number=revision.c.number + 1))
