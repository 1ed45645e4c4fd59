"""A thread with a connection of its own to the database: work in it costs one hop, whatever it does there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage.connection import Connection, StorageError
from app.storage.opening import open_connection, open_reading_connection

__all__ = ["Crowded", "DatabaseThread", "ReadingThread"]

MOST_ASKING = 9

T = TypeVar("T")
Work = Callable[[Connection], T]

CLOSE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Crowded(SQLAlchemyError):
    """So many wait for a reading that one more isn't taken in."""


class DatabaseThread:
    """Does one piece of work after the other, each with the same connection.

    The connection commits by itself: a single statement is its own transaction. So Python's lock can be let go and taken back once a
    commit, not at each of its steps; while the event loop is busy, taking it back is what a commit would mostly wait for.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Do the work; gives its result.

        What it left open where it failed is rolled back.

        Raises:
            SQLAlchemyError: the database refused.
        """
        return await self._order(lambda: work(self._connect()))

    async def aclose(self) -> None:
        """Close the connection, once what was ordered is done. Where that takes longer than 5 s the thread is left behind: it may hang."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._order(self._disconnect)
        except TimeoutError:
            log.error("work on the database doesn't end; its thread is left behind")  # noqa: TRY400 - there is no more to know
        self._orders.put(None)

    def _order(self, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._orders.put(_Order(work, loop, done))
        return done

    def _work(self) -> None:
        while order := self._orders.get():
            self._carry_out(order)

    def _carry_out(self, order: _Order) -> None:
        try:
            result = order.work()
        except StorageError as error:
            # The next attempt gets a connection of its own, with nothing left open.
            self._disconnect()
            order.fail(_translated(error))
        except Exception as error:
            log.exception("work on the database failed, by a defect")
            self._disconnect()
            order.fail(error)
        else:
            order.tell(result)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> Connection:
        return open_connection(self._engine)

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


class ReadingThread(DatabaseThread):
    """Reads, for those who still want to know.

    Who doesn't wait any longer costs nothing more: what it asked for is left out or, where it is under way, broken off. Nine at most are
    waited for, one of whom is being served. The connection can't write.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._asked: set[asyncio.Future[Any]] = set()
        self._current: _Order | None = None
        super().__init__(engine)

    async def run(self, work: Work[T]) -> T:
        """Do the work; gives its result.

        Raises:
            Crowded: too many wait already.
            SQLAlchemyError: the database refused, or the thread was closed meanwhile.
        """
        if len(self._asked) >= MOST_ASKING:
            message = "too many wait for a reading"
            raise Crowded(message)
        done = self._order(lambda: work(self._connect()))
        self._asked.add(done)
        try:
            return await done
        finally:
            self._asked.discard(done)

    async def aclose(self) -> None:
        """Close the connection; what was asked for is dropped."""
        for done in self._asked:
            if not done.done():
                done.set_exception(_translated(StorageError("the reading ends")))
        await super().aclose()

    def _carry_out(self, order: _Order) -> None:
        if order.done.done():
            return
        self._current = order
        super()._carry_out(order)

    def _open(self) -> Connection:
        return open_reading_connection(self._engine, self._is_vain)

    def _is_vain(self) -> bool:
        return self._current is not None and self._current.done.done()


def _translated(error: StorageError) -> DBAPIError:
    """As SQLAlchemy raises it: from the database's own error, which says in one line what is the matter."""
    cause = error.__cause__ or error
    translated = DBAPIError("", None, cause)
    translated.__cause__ = cause
    return translated


@dataclass(frozen=True, slots=True)
class _Order:
    """Work for the thread, and who hears of its end."""

    work: Callable[[], Any]
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
