"""Appending many rows in one commit, at the least cost: one statement, in one thread that keeps its own connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.engine import prepare
from app.storage.tables import audit_records

__all__ = ["Appender"]

INSERT = f"INSERT INTO {audit_records.name} (body) VALUES "  # noqa: S608 - no value goes into it
ONE_ROW = "(?)"

log = structlog.get_logger(__name__)


class Appender:
    """Appends audit records to SQLite.

    A group goes in by a single statement, which is its own transaction: Python's lock is let go and taken back once a commit, not at each
    of its steps. While the event loop is busy, taking it back is what a commit would mostly wait for.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._path = engine.url.database or ""
        self._connection: sqlite3.Connection | None = None
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    async def append(self, bodies: Sequence[str]) -> None:
        """Commit these records, in this order; durable when it returns.

        Raises:
            SQLAlchemyError: they are not there, none of them.
        """
        await self._order(lambda: self._insert(bodies))

    async def probe(self) -> None:
        """Find out whether a record could be appended now, without leaving one.

        Raises:
            SQLAlchemyError: it could not.
        """
        await self._order(self._try)

    async def aclose(self) -> None:
        """Close the connection, once what was ordered is done."""
        await self._order(self._disconnect)
        self._orders.put(None)

    async def _order(self, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._orders.put(_Order(work, loop, done))
        await done

    def _work(self) -> None:
        while order := self._orders.get():
            try:
                order.work()
            except sqlite3.Error as error:
                # The next attempt gets a connection of its own, with nothing left open.
                self._disconnect()
                order.tell(DBAPIError(INSERT, None, error))
            except Exception as error:
                log.exception("audit records can't be written, by a defect")
                self._disconnect()
                order.tell(error)
            else:
                order.tell(None)

    def _insert(self, bodies: Sequence[str]) -> None:
        self._connect().execute(INSERT + ",".join([ONE_ROW] * len(bodies)), bodies)

    def _try(self) -> None:
        connection = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(INSERT + ONE_ROW, ("{}",))
        connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            prepare(self._connection)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class _Order:
    """Work for the thread, and who hears of its end."""

    work: Callable[[], None]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]

    def tell(self, error: Exception | None) -> None:
        self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)
