"""A lock of PostgreSQL's that goes with the connection which holds it: whoever dies, or is cut off, gives it up.

A server that hears nothing of a cut counts the old session as there, with the lock, until its keepalives fail (25 s). So who comes back
ends its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import URL

from app.storage.postgresql import connect, leave

__all__ = ["HeldLock"]

REMEMBERED = 50
END_MILLISECONDS = 500
OWN_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
HELD_BY = """
SELECT true FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = {key} AND objsubid = 1 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pg_locks.pid = pg_stat_activity.pid
"""
END_OWN = """
SELECT pg_terminate_backend(pid, {milliseconds}) FROM pg_stat_activity
WHERE (pid, backend_start) IN (SELECT * FROM unnest($1::integer[], $2::timestamptz[])) AND EXISTS ({held_by})
"""
"""Its process's number alone might be another's by now."""

log = structlog.get_logger(__name__)


class HeldLock:
    """A session's advisory lock (PostgreSQL's manual, section 13.3.5) on a connection of its own.

    Args:
        url: the database, as SQLAlchemy takes it.
        key: the lock's number.
        on_lost: called, on the loop, as soon as the connection is known to be lost, and the lock with it.
        answer_seconds: how long the server may take to answer before the lock counts as lost.
        shared: others may hold it too, as long as they share it.
    """

    def __init__(self, url: URL, key: int, on_lost: Callable[[], None], *, answer_seconds: float, shared: bool = False) -> None:
        self._url = url
        self._take = f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}({key})"
        self._end_own = END_OWN.format(milliseconds=END_MILLISECONDS, held_by=HELD_BY.format(key=key))
        self._sessions: deque[tuple[int, datetime]] = deque(maxlen=REMEMBERED)
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
        connection = self._connection
        try:
            async with asyncio.timeout(self._answer_seconds):
                # Each taking would have to be given back by itself, so it is taken once.
                self._holds = await connection.fetchval("SELECT true") if self._holds else await self._taken(connection)
        except Exception:
            self._drop()
            raise
        return self._holds

    async def leave(self) -> None:
        """Give the lock up; a server that doesn't answer is left after 1 s."""
        if self._connection is not None:
            connection, self._connection, self._holds = self._connection, None, False
            await leave(connection)

    async def _taken(self, connection: Any) -> bool:  # noqa: ANN401 - the driver has no types
        own = tuple(await connection.fetchrow(OWN_SESSION))
        earlier = [session for session in self._sessions if session != own]
        # Before it may have the lock: the answer that says so may be lost.
        self._sessions = deque([*earlier, own], maxlen=REMEMBERED)
        if await connection.fetchval(self._take):
            return True
        if not earlier or not await connection.fetch(self._end_own, *zip(*earlier, strict=True)):
            return False
        log.warning("this process's own old session, which the server still counted as there, was ended")
        if not await connection.fetchval(self._take):
            # It may still be ending, or another was quicker: the next look tells.
            message = "the lock isn't free yet"
            raise TimeoutError(message)
        return True

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
