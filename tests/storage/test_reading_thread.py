"""The thread that reads, on a real file: for those who still want to know, a few at a time, and without ever writing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import Connection, Crowded, ReadingThread
from app.storage.thread import MOST_ASKING

FOR_EVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
REVISION = "SELECT number FROM revision"

Work = Callable[[Connection], object]


@pytest_asyncio.fixture
async def thread(engine: AsyncEngine) -> AsyncIterator[ReadingThread]:
    """A thread on the migrated database."""
    made = ReadingThread(engine)
    yield made
    await made.aclose()


def revision(connection: Connection) -> int:
    """A short reading."""
    return int(connection.execute(REVISION).fetchone()[0])


def one_endless_query(connection: Connection) -> None:
    """A query that never ends by itself."""
    connection.execute(FOR_EVER).fetchone()


def endlessly_many_queries(connection: Connection) -> None:
    """Short ones, one after the other, for ever."""
    while True:
        revision(connection)


async def begin(thread: ReadingThread, work: Work) -> asyncio.Task[object]:
    """Ask for work, and wait until it is under way."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def telling(connection: Connection) -> object:
        loop.call_soon_threadsafe(begun.set)
        return work(connection)

    task = asyncio.create_task(thread.run(telling))
    await begun.wait()
    return task


async def gone(*tasks: asyncio.Task[object]) -> None:
    """Their askers go."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def waiting(thread: ReadingThread, count: int, work: Work = revision) -> list[asyncio.Task[object]]:
    """So many more that have asked."""
    tasks = [asyncio.create_task(thread.run(work)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_it_never_writes(thread: ReadingThread) -> None:
    """A statement that would write is refused, and reading goes on."""
    with pytest.raises(SQLAlchemyError, match=r"read-?only"):
        await thread.run(lambda connection: connection.execute("UPDATE revision SET number = 5"))

    assert await thread.run(revision) == 1


async def test_what_nobody_waits_for_is_left_out(thread: ReadingThread) -> None:
    """Whoever goes while others are served isn't served any more."""
    served, release = list[str](), threading.Event()
    first = await begin(thread, lambda _: release.wait(10))
    [left] = await waiting(thread, 1, lambda _: served.append("left"))
    [stayed] = await waiting(thread, 1, lambda _: served.append("stayed"))
    await gone(left)
    release.set()
    await asyncio.gather(first, stayed)

    assert served == ["stayed"]


@pytest.mark.parametrize("work", [one_endless_query, endlessly_many_queries])
async def test_a_reading_whose_asker_has_gone_is_broken_off(thread: ReadingThread, work: Work) -> None:
    """One long query or many short ones: the next who asks is served, though it would never have ended."""
    await gone(await begin(thread, work))

    assert await thread.run(revision) == 1


async def test_few_are_waited_for(thread: ReadingThread) -> None:
    """One more than may ask at once is refused at once; where one of them has gone, there is a place again."""
    release = threading.Event()
    first = await begin(thread, lambda _: release.wait(10))
    others = await waiting(thread, MOST_ASKING - 1)
    with pytest.raises(Crowded):
        await thread.run(revision)
    await gone(others.pop())
    [late] = await waiting(thread, 1)
    release.set()

    assert await asyncio.gather(first, *others, late) == [True, *[1] * (MOST_ASKING - 1)]


@pytest.mark.parametrize("work", [one_endless_query, endlessly_many_queries])
async def test_its_end_waits_for_no_reading(engine: AsyncEngine, work: Work) -> None:
    """What is under way is broken off, what waits is dropped, and all who asked are told."""
    thread = ReadingThread(engine)
    asked = [await begin(thread, work), *await waiting(thread, 3, work)]
    await thread.aclose()
    ends = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(end) for end in ends] == [type(ends[0])] * 4
    assert isinstance(ends[0], SQLAlchemyError)
