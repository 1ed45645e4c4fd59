"""A lock of PostgreSQL's that goes with the connection which holds it: whoever dies, or is cut off, gives it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL

from app.storage.postgresql import connect, leave

__all__ = ["HeldLock"]


class HeldLock:
    """A session's advisory lock (PostgreSQL's manual, section 13.3.5) on a connection of its own.

    Args:
        url: the database, as SQLAlchemy takes it.
        key: the lock's number.
        on_lost: called, on the loop, as soon as the connection is known to be lost, and the lock with it.
        answer_seconds: how long the server may take to answer before the lock counts as lost.
    """

    def __init__(self, url: URL, key: int, on_lost: Callable[[], None], *, answer_seconds: float) -> None:
        self._url = url
        self._take = f"SELECT pg_try_advisory_lock({key})"
        self._on_lost = on_lost
        self._answer_seconds = answer_seconds
        self._connection: Any = None
        self._holds = False

    async def hold(self) -> bool:
        """See to it that the lock is held, if nobody else has it; gives whether the server has just confirmed that it is.

        Raises:
            OperationalError: the server can't be reached.
            any of `REFUSALS`: it doesn't answer in time; the lock counts as lost.
        """
        if self._connection is None:
            self._connection = await connect(self._url)
            self._connection.add_termination_listener(self._terminated)
        try:
            async with asyncio.timeout(self._answer_seconds):
                # Each taking would have to be given back by itself, so it is taken once.
                query = "SELECT true" if self._holds else self._take
                self._holds = bool(await self._connection.fetchval(query))
        except Exception:
            self._drop()
            raise
        return self._holds

    async def leave(self) -> None:
        """Give the lock up; a server that doesn't answer is left after 1 s."""
        if self._connection is not None:
            connection, self._connection, self._holds = self._connection, None, False
            await leave(connection)

    def _terminated(self, connection: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._lose()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self._lose()

    def _lose(self) -> None:
        if self._holds:
            self._holds = False
            self._on_lost()
