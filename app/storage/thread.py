"""A thread with a connection of its own to SQLite: work in it costs one hop, whatever it does there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.engine import prepare

__all__ = ["DatabaseThread"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

CLOSE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class DatabaseThread:
    """Does one piece of work after the other, each with the same connection.

    The connection commits by itself: a single statement is its own transaction. So Python's lock can be let go and taken back once a
    commit, not at each of its steps; while the event loop is busy, taking it back is what a commit would mostly wait for.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._path = engine.url.database or ""
        self._connection: sqlite3.Connection | None = None
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Do the work; gives its result.

        What it left open where it failed is rolled back.

        Raises:
            SQLAlchemyError: the database refused.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._orders.put(_Order(work, loop, done))
        return await done

    async def aclose(self) -> None:
        """Close the connection, once what was ordered is done. Where that takes longer than 5 s the thread is left behind: it may hang."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.run(lambda _: self._disconnect())
        except TimeoutError:
            log.error("work on the database doesn't end; its thread is left behind")  # noqa: TRY400 - there is no more to know
        self._orders.put(None)

    def _work(self) -> None:
        while order := self._orders.get():
            try:
                result = order.work(self._connect())
            except sqlite3.Error as error:
                # The next attempt gets a connection of its own, with nothing left open.
                self._disconnect()
                order.fail(_translated(error))
            except Exception as error:
                log.exception("work on the database failed, by a defect")
                self._disconnect()
                order.fail(error)
            else:
                order.tell(result)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            prepare(self._connection)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def _translated(error: sqlite3.Error) -> DBAPIError:
    """As SQLAlchemy raises it: from the database's own error, which says in one line what is the matter."""
    translated = DBAPIError("", None, error)
    translated.__cause__ = error
    return translated


@dataclass(frozen=True, slots=True)
class _Order:
    """Work for the thread, and who hears of its end."""

    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]

    def tell(self, result: object) -> None:
        self.loop.call_soon_threadsafe(self._settle, result, None)

    def fail(self, error: Exception) -> None:
        self.loop.call_soon_threadsafe(self._settle, None, error)

    def _settle(self, result: object, error: Exception | None) -> None:
        if self.done.done():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)
