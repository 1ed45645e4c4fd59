"""The stream: every record as a line of JSON, for collectors, as soon as it is durable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.batch import Batch
from app.audit.bookmark import Bookmark, bookmark_for
from app.audit.canonical import canonical
from app.audit.chain import Row
from app.audit.ledger import Listener
from app.audit.outlets import Outlet, outlet_of
from app.audit.seals import Seal
from app.domain import utc_now
from app.storage import Connection, Lead, StorageError, open_reading_connection

__all__ = ["Stream", "streamed"]

BATCH_RECORDS = 200
MOST_BEHIND = 1_000_000
LOOK_SECONDS = 0.5
GATHER_SECONDS = 0.02
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 3.0
LAST_ATTEMPT_SECONDS = 2.0
CLOSING_PAUSE_SECONDS = 0.1

log = structlog.get_logger(__name__)


@asynccontextmanager
async def streamed(target: str, engine: AsyncEngine, state_dir: Path, lead: Lead) -> AsyncIterator[tuple[Listener, ...]]:
    """Stream to `stdout` or `file:PATH` while the context lasts (`none`: don't); gives who must hear of new records.

    It must begin before the first record is written, and end after the last. While this process doesn't lead another streams.

    Raises:
        StartRefused: the target can't be written, or it can't be kept how far it came.
    """
    if target == "none":
        yield ()
        return
    stream = Stream(outlet_of(target), engine, bookmark_for(engine, state_dir, "stream"), lead)
    await asyncio.to_thread(stream.start)
    try:
        yield (stream,)
    finally:
        await stream.aclose()


class Stream:
    """Writes what is on record, in the order of the records' numbers, by a thread of its own: nothing ever waits for it.

    The order of the numbers is that of the commits, on PostgreSQL too, where all who write records do so under one lock: no record
    appears with a number below one that was read.

    It reads the records from the database, where those of all processes are, so nothing is kept in memory for a collector that is slow.
    One that is too far behind is told what was left out, and so it is where records were removed before they were written.

    Args:
        outlet: takes the lines.
        engine: the database; read on a connection of the stream's own.
        bookmark: the last record that was written.
        lead: whether this process is the one that streams. It takes up where the one before stopped.
        most_behind: how many records it may be behind. Where it is more, it goes on with the newest half as many.
    """

    def __init__(self, outlet: Outlet, engine: AsyncEngine, bookmark: Bookmark, lead: Lead, *, most_behind: int = MOST_BEHIND) -> None:
        self._outlet = outlet
        self._engine = engine
        self._bookmark = bookmark
        self._lead = lead
        self._term = 0
        self._most_behind = most_behind
        self._connection: Connection | None = None
        self._reached = 0
        self._batch = Batch()
        self._news, self._closing = Event(), Event()
        self._deadline = 0.0
        self._thread = Thread(target=self._work, name="audit stream", daemon=True)
        self.failures = 0
        self.left_out = 0

    def start(self) -> None:
        """Go on after the last record that was written; the first time, after the newest there is; from the oldest where that isn't known.

        A process that doesn't lead only sees to it that whoever does goes on from here.

        Raises:
            StartRefused: the bookmark can't be used.
            StorageError: the database can't be read.
        """
        self._bookmark.place(self._newest())
        if self._lead.leads:
            self._take_up()
        self._disconnect()
        self._thread.start()

    def appended(self, rows: Sequence[Row]) -> None:  # noqa: ARG002 - they are read where those of other processes are, too
        """There is something to write."""
        self._news.set()

    def sealed(self, seals: Sequence[Seal]) -> None:
        """Checkpoints aren't streamed."""

    async def aclose(self) -> None:
        """Write what there is, within about 3 s, and stop. What is left is written by the next process."""
        self._deadline = time.monotonic() + CLOSE_SECONDS
        self._closing.set()
        self._news.set()
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS + LAST_ATTEMPT_SECONDS)
        if self._thread.is_alive() or self.failures:
            log.warning("the audit stream isn't written to its end; the rest follows at the next start", after=self._reached)

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                self._news.wait(LOOK_SECONDS)
                self._closing.wait(GATHER_SECONDS)
                self._news.clear()
                if not self._attempt():
                    self._closing.wait(RETRY_SECONDS)
            while not self._attempt() and time.monotonic() < self._deadline:
                time.sleep(CLOSING_PAUSE_SECONDS)
        finally:
            self._disconnect()
            self._outlet.close()
            self._bookmark.close()

    def _attempt(self) -> bool:
        """Write what there is; gives whether that worked. Where it didn't, the next attempt goes on at the same byte."""
        try:
            self._pass_on()
        except Exception as error:
            # The thread's outermost edge: calls go on, for the record itself is on disk; the stream catches up later.
            if not self.failures:
                trace = not isinstance(error, OSError | StorageError)
                log.exception("the audit stream can't be written", error=str(error), exc_info=trace)
            self.failures += 1
            self._disconnect()
            return False
        if self.failures:
            log.warning("the audit stream is written again", attempts=self.failures, after=self._reached)
        self.failures = 0
        return True

    def _take_up(self) -> None:
        """Go on where the process that led before stopped, where there may have been one."""
        term = self._lead.term
        if term != self._term:
            kept, newest = self._bookmark.kept(), self._newest()
            self._reached = self._bookmark.resume(kept, newest, first=newest, oldest=0)
            self._batch, self._term = Batch(), term

    def _pass_on(self) -> None:
        if self._outlet.freshen():
            self._batch.rewind()
        if not self._lead.leads:
            self._batch.cut()
        self._send()
        while self._lead.leads and (lines := self._following()):
            self._batch = Batch(lines)
            self._send()
            if self._closing.is_set() and time.monotonic() > self._deadline:
                message = "there is more than can be written before the end"
                raise TimeoutError(message)

    def _send(self) -> None:
        try:
            while rest := self._batch.rest:
                self._batch.advance(self._outlet.send(rest))
        finally:
            done = self._batch.done
            if done is not None and done != self._reached:
                self._bookmark.move(done)
                self._reached = done

    def _following(self) -> list[tuple[int, bytes]]:
        self._take_up()
        return list(self._lines())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """The next lines, each with the number of the record that it ends at. Where records are missing a line says so."""
        reached = self._reached
        for number, body in self._next():
            if number != reached + 1:
                yield number - 1, self._leave_out(reached + 1, number - 1)
            yield number, body + b"\n"
            reached = number

    def _next(self) -> Sequence[tuple[int, bytes]]:
        newest, after = self._newest(), self._reached
        if newest - after > self._most_behind:
            after = newest - self._most_behind // 2
        # Bodies as they are stored, byte for byte, also where they were damaged.
        query = "SELECT number, CAST(body AS BLOB) FROM audit_records WHERE number > ? ORDER BY number LIMIT ?"
        return self._read(query, after, BATCH_RECORDS)

    def _leave_out(self, first: int, last: int) -> bytes:
        count = last - first + 1
        self.left_out += count
        log.warning("records are left out of the audit stream", first=first, last=last, count=count)
        return canonical({"at": utc_now(), "left_out": {"first": first, "last": last, "count": count}}) + b"\n"

    def _newest(self) -> int:
        return int(self._read("SELECT coalesce(max(number), 0) FROM audit_records")[0][0])

    def _read(self, query: str, *parameters: int) -> Sequence[Any]:
        if self._connection is None:
            self._connection = open_reading_connection(self._engine, _never)
        return self._connection.execute(query, parameters).fetchall()

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def _never() -> bool:
    """Whoever waits for the stream goes on doing so."""
    return False
