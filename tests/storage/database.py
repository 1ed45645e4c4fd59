"""Real databases for tests, with the newest schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Dialect, Rows, open_connection, open_engine
from app.storage.migrate import upgrade
from app.storage.postgresql import SESSION

MADE: list[bytes] = []
T = TypeVar("T")

ON_SQLITE = pytest.mark.parametrize("database", [Dialect.SQLITE], indirect=True)
"""For a test that is about SQLite, or its file."""

ON_POSTGRESQL = pytest.mark.parametrize("database", [Dialect.POSTGRESQL], indirect=True)
"""For a test that is about PostgreSQL, or a server's own."""


def address_of(path: Path) -> str:
    """A database file's address, as SQLAlchemy takes it."""
    return f"sqlite+aiosqlite:///{path}"


@asynccontextmanager
async def opened(where: Path | str) -> AsyncIterator[AsyncEngine]:
    """The engine of a database, by its file or address, as it is; closed at the end."""
    engine = open_engine(where if isinstance(where, str) else address_of(where))
    try:
        yield engine
    finally:
        await engine.dispose()


async def make(path: Path) -> None:
    """Make a database file with the newest schema.

    The migrations run once a process, and each file begins as a copy of what they made.
    """
    if not MADE:
        async with opened(path) as engine:
            await upgrade(engine)
        MADE.append(path.read_bytes())  # noqa: ASYNC240 - a few pages of a local file
    path.write_bytes(MADE[0])  # noqa: ASYNC240 - as above


@asynccontextmanager
async def migrated(path: Path) -> AsyncIterator[AsyncEngine]:
    """The engine of a new database file with the newest schema; closed at the end."""
    await make(path)
    async with opened(path) as engine:
        yield engine


class Hand:
    """Somebody who works on a database by hand, whichever it is, from wherever the test is: the work is done in a thread.

    Args:
        where: leads to the database, or is its file.
    """

    def __init__(self, where: AsyncEngine | Path) -> None:
        engine = open_engine(address_of(where)) if isinstance(where, Path) else where
        self._thread = ThreadPoolExecutor(1)
        self._connection = self._do(lambda: open_connection(engine))

    @property
    def dialect(self) -> Dialect:
        """The database that it is."""
        return self._connection.dialect

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Execute one statement, which is its own transaction."""
        return self._do(lambda: self._connection.execute(sql, parameters))

    def lock(self) -> None:
        """Keep everybody else from writing the record, until it is let go."""
        self._do(self._connection.begin_writing)

    def let_go(self) -> None:
        """Undo what was done since it was locked."""
        self.execute("ROLLBACK")

    def close(self) -> None:
        """Leave."""
        self._do(self._connection.close)
        self._thread.shutdown()

    def _do(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()


@contextmanager
def by_hand(where: AsyncEngine | Path) -> Iterator[Hand]:
    """A connection of the test's own, to a database or its file, while the context lasts."""
    hand = Hand(where)
    try:
        yield hand
    finally:
        hand.close()


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections that are opened from now on wait for a lock for a twentieth of a second only."""
    monkeypatch.setattr("app.storage.embedded.BUSY_TIMEOUT_MS", 50)
    monkeypatch.setitem(SESSION, "lock_timeout", "50ms")


@contextmanager
def locked(engine: AsyncEngine) -> Iterator[None]:
    """Another process holds the lock that writing the record needs."""
    with by_hand(engine) as hand:
        hand.lock()
        try:
            yield
        finally:
            hand.let_go()
