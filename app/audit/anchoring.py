"""Anchoring: every checkpoint is handed to a program of the operator's, which keeps it where the gateway's database can't be edited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.anchors import anchor_line
from app.audit.bookmark import Bookmark, bookmark_for
from app.audit.chain import Row
from app.audit.ledger import Listener
from app.audit.program import ProgramFailed, run_program
from app.audit.seals import Seal
from app.storage import Lead, reading
from app.storage.tables import audit_checkpoints

__all__ = ["Anchoring", "anchored"]

MOST_WAITING = 100
LIMIT_SECONDS = 10.0
LOOK_SECONDS = 1.0
RETRY_SECONDS = 60.0
CLOSE_SECONDS = 10.0

log = structlog.get_logger(__name__)

Numbered = tuple[int, Seal]


@asynccontextmanager
async def anchored(command: Sequence[str], engine: AsyncEngine, state_dir: Path, lead: Lead) -> AsyncIterator[tuple[Listener, ...]]:
    """Hand checkpoints over while the context lasts (without a command: don't); gives who must hear of new ones.

    It must end after the last checkpoint was made. While this process doesn't lead another hands over.
    """
    if not command:
        yield ()
        return
    bookmark = bookmark_for(engine, state_dir, "anchors")
    anchoring = Anchoring(command, engine, bookmark, lead)
    try:
        async with anchoring.kept():
            yield (anchoring,)
    finally:
        await asyncio.to_thread(bookmark.close)


class Anchoring:
    """Runs the program once for each checkpoint, in the order in which they were made, one after the other.

    It reads them from the database, where those of other processes are, too. One that can't be handed over is tried again when there is
    a newer one, or after a minute; of those that wait the newest 100 are handed over.

    Args:
        command: the program and its arguments.
        engine: the database.
        bookmark: the last checkpoint that was handed over.
        lead: whether this process is the one that hands over. It takes up where the one before stopped.
        limit: seconds that one run may take.
    """

    def __init__(
        self, command: Sequence[str], engine: AsyncEngine, bookmark: Bookmark, lead: Lead, *, limit: float = LIMIT_SECONDS
    ) -> None:
        self._command = command
        self._engine = engine
        self._bookmark = bookmark
        self._lead = lead
        self._term = 0
        self._limit = limit
        self._reached = 0
        self._refused: int | None = None
        self._again_at = 0.0
        self._news = asyncio.Event()
        self._closing = False

    def appended(self, rows: Sequence[Row]) -> None:
        """Records are not handed over."""

    def sealed(self, seals: Sequence[Seal]) -> None:  # noqa: ARG002 - they are read where those of other processes are, too
        """There is something to hand over."""
        self._news.set()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Hand over in the background while the context lasts, and at its end what is left, within 10 s.

        Raises:
            StartRefused: the bookmark can't be used.
            SQLAlchemyError: the database can't be read.
        """
        await asyncio.to_thread(self._bookmark.place, max(0, await self._newest() - MOST_WAITING))
        if self._lead.leads:
            await self._take_up()
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await self._end(task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        self._closing = True
        self._news.set()
        _, unfinished = await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        if unfinished:
            log.warning("the last checkpoints aren't handed to the audit anchor command in time; they follow at the next start")
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        last = False
        while not last:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            last = self._closing
            await self._attempt()

    async def _take_up(self) -> None:
        """Go on where the process that led before stopped, where there may have been one."""
        term = self._lead.term
        if term != self._term:
            kept = await asyncio.to_thread(self._bookmark.kept)
            newest = await self._newest()
            oldest = max(0, newest - MOST_WAITING)
            resume = partial(self._bookmark.resume, kept, newest, first=oldest, oldest=oldest)
            self._reached, self._term, self._refused = await asyncio.to_thread(resume), term, None

    async def _attempt(self) -> None:
        if not self._lead.leads:
            return
        try:
            await self._take_up()
            waiting = await self._waiting()
            if waiting and self._is_due(waiting[-1][0]):
                await self._hand_over(waiting)
        except Exception:
            # The task's outermost edge: calls go on; the next look tries again.
            log.exception("checkpoints can't be read, or it can't be kept which were handed over")

    def _is_due(self, newest: int) -> bool:
        return newest != self._refused or self._closing or asyncio.get_running_loop().time() >= self._again_at

    async def _hand_over(self, waiting: Sequence[Numbered]) -> None:
        for number, seal in waiting:
            try:
                await run_program(self._command, f"{anchor_line(seal)}\n".encode(), within=self._limit)
            except ProgramFailed as failure:
                self._refused, self._again_at = waiting[-1][0], asyncio.get_running_loop().time() + RETRY_SECONDS
                log.error("the audit anchor command failed", reason=str(failure), stderr=failure.said, waiting=len(waiting))  # noqa: TRY400 - the reason is all there is to know
                return
            if number != self._reached + 1:
                log.warning("older checkpoints were not handed to the audit anchor command", first=self._reached + 1, last=number - 1)
            self._reached = number
            await asyncio.to_thread(self._bookmark.move, number)
            if not self._lead.leads:
                return

    async def _waiting(self) -> list[Numbered]:
        """The newest that weren't handed over yet, oldest first."""
        table = audit_checkpoints.c
        query = select(table.number, table.body, table.signature).where(table.number > self._reached)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query.order_by(table.number.desc()).limit(MOST_WAITING))
            return [(number, Seal(body, signature)) for number, body, signature in rows][::-1]

    async def _newest(self) -> int:
        async with reading(self._engine) as connection:
            return int((await connection.execute(select(func.coalesce(func.max(audit_checkpoints.c.number), 0)))).scalar_one())
