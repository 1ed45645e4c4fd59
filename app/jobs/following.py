"""Following jobs: whoever follows one is given the newest that is known of it, at most 4 times a second, until its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.background import kept_running
from app.catalogue import Catalogue
from app.errors import CallerRateExceeded, ShuttingDown, TooManyFollowers
from app.jobs.job import Job
from app.jobs.outlook import Outlook, outlook
from app.jobs.store import JobStore
from app.storage import reading

__all__ = ["Follower", "Followers", "Snapshot"]

MOST_OF_CALLER = 1_000
MOST = 4_000
BETWEEN_SECONDS = 0.25
LOOK_SECONDS = 1.0
RETRY_AFTER_SECONDS = 10.0
ROWS_AT_A_TIME = 100

log = structlog.get_logger(__name__)


class Lanes(Protocol):
    """Knows how long sends take."""

    def wait_behind_interactive(self, token_id: str, operation: str, sends: int) -> float | None: ...


@dataclass(slots=True)
class Snapshot:
    """A job at one moment; `ends_in` seconds from then it will end if things stay as they are: None where it has, or nobody can tell."""

    job: Job
    ends_in: float | None
    _text: bytes | None = None

    @property
    def mark(self) -> str:
        """Says how far the job is: another one of the same job that looks otherwise has another."""
        return ".".join((self.job.state, *map(str, _steps(self.job))))

    def text(self, render: Callable[[Snapshot], bytes]) -> bytes:
        """What `render` makes of it, made once for all who follow."""
        if self._text is None:
            self._text = render(self)
        return self._text


@dataclass(slots=True)
class _Feed:
    """A job that is followed. `newest` is what is known of it, `shown` what its followers may have by now."""

    newest: Snapshot
    shown: Snapshot = field(init=False)
    followers: int = 0
    gone: bool = False
    heard_at: float = 0.0
    shown_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.shown = self.newest

    def tell(self) -> None:
        """Wake all who wait; who comes to wait from now on waits for the next time."""
        self.news.set()
        self.news = asyncio.Event()


class Follower:
    """One who follows a job. Nothing is kept for it but the mark of what it had last, so a slow one misses what came between."""

    def __init__(self, feed: _Feed, seen: str | None, is_closed: Callable[[], bool]) -> None:
        self._feed = feed
        self._seen = seen
        self._is_closed = is_closed

    async def newest(self) -> Snapshot | None:
        """What is newest of the job, once that is other than what this follower had last; None: nothing more will come."""
        while not self._feed.gone and not self._is_closed():
            shown = self._feed.shown
            if shown.mark != self._seen:
                self._seen = shown.mark
                return shown
            if shown.job.finished:
                break
            await self._feed.news.wait()
        return None


class Followers:
    """All who follow jobs in this process.

    It is told of changes by who carries the jobs out here. Of a job of which it hears nothing for a second it reads the row: another
    process may carry it out, or it may be gone.

    Args:
        engine: the database.
        catalogue: the operations.
        lanes: how long sends take.
        most_of_caller: how many of one caller's may follow at a time.
        most: how many may follow at a time.
    """

    def __init__(
        self, engine: AsyncEngine, catalogue: Catalogue, lanes: Lanes, *, most_of_caller: int = MOST_OF_CALLER, most: int = MOST
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._lanes = lanes
        self._most_of_caller = most_of_caller
        self._most = most
        self._store = JobStore()
        self._feeds: dict[str, _Feed] = {}
        self._of_caller: Counter[str] = Counter()
        self._outlook = Outlook({})
        self._new = asyncio.Event()
        self._closed = False

    @property
    def count(self) -> int:
        """How many follow now."""
        return self._of_caller.total()

    @contextmanager
    def follow(self, job: Job, ends_in: float | None, *, seen: str | None) -> Iterator[Follower]:
        """Follow a job while the context lasts.

        Args:
            job: as it was read just now.
            ends_in: its expected end, in seconds.
            seen: the mark of what the follower had before, if it had anything.

        Raises:
            CallerRateExceeded: too many follow the caller's jobs.
            TooManyFollowers
            ShuttingDown
        """
        self._check(job.caller_id)
        self.changed(job)
        feed = self._feeds.get(job.id)
        if feed is None:
            feed = self._feeds[job.id] = _Feed(Snapshot(job, ends_in))
            # A change between the reading of the row and now was told to nobody: it is read again.
            self._new.set()
        self._of_caller[job.caller_id] += 1
        feed.followers += 1
        try:
            yield Follower(feed, seen, lambda: self._closed)
        finally:
            self._leave(feed)

    def changed(self, job: Job) -> None:
        """The job is as given now; what is older than what is known already is passed over."""
        feed = self._feeds.get(job.id)
        if feed is None:
            return
        feed.heard_at = time.monotonic()
        if _steps(job) > _steps(feed.newest.job):
            feed.newest = Snapshot(job, self._ends_in(job, feed.newest.ends_in))
            self._show_in_time(feed)

    def close(self) -> None:
        """Let all go, and take no more."""
        self._closed = True
        for feed in self._feeds.values():
            feed.tell()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Look at what nobody tells of, while the context lasts."""
        async with kept_running(self._keep()):
            try:
                yield
            finally:
                self.close()

    def _check(self, caller_id: str) -> None:
        if self._closed:
            message = "the gateway is shutting down; follow the job again in a moment"
            raise ShuttingDown(message, retry_after=RETRY_AFTER_SECONDS)
        if self._of_caller[caller_id] >= self._most_of_caller:
            message = f"{self._most_of_caller} follow the caller's jobs already; let some go, or ask for the job itself now and then"
            raise CallerRateExceeded(message, retry_after=RETRY_AFTER_SECONDS)
        if self.count >= self._most:
            message = "too many follow jobs; ask for the job itself now and then"
            raise TooManyFollowers(message, retry_after=RETRY_AFTER_SECONDS)

    def _leave(self, feed: _Feed) -> None:
        job = feed.newest.job
        feed.followers -= 1
        self._of_caller[job.caller_id] -= 1
        if not self._of_caller[job.caller_id]:
            del self._of_caller[job.caller_id]
        if not feed.followers and self._feeds.get(job.id) is feed:
            self._forget(feed)

    def _forget(self, feed: _Feed) -> None:
        if feed.timer:
            feed.timer.cancel()
        del self._feeds[feed.newest.job.id]

    def _show_in_time(self, feed: _Feed) -> None:
        """Show what is newest: an end at once, else when the last time is a quarter of a second ago."""
        wait = 0.0 if feed.newest.job.finished else feed.shown_at + BETWEEN_SECONDS - time.monotonic()
        if wait <= 0:
            self._show(feed)
        elif feed.timer is None:
            feed.timer = asyncio.get_running_loop().call_later(wait, self._show, feed)

    def _show(self, feed: _Feed) -> None:
        if feed.timer:
            feed.timer.cancel()
        feed.timer, feed.shown, feed.shown_at = None, feed.newest, time.monotonic()
        feed.tell()

    def _ends_in(self, job: Job, before: float | None) -> float | None:
        if job.finished:
            return None
        if job.id not in self._outlook.sends.get(job.token_id, {}):
            return before
        return self._lanes.wait_behind_interactive(job.token_id, job.operation, self._outlook.sends_until(job.token_id, job.id))

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._new.wait(), LOOK_SECONDS if self._feeds else None)
            self._new.clear()
            try:
                await self._look()
            except Exception:
                # The task's outermost edge: whoever follows goes on with what is told.
                log.exception("jobs that are followed can't be read; trying again")
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Read the jobs of which nothing was heard for a second, and what stands before the end of all."""
        long_ago = time.monotonic() - LOOK_SECONDS
        quiet = [feed.newest.job.id for feed in self._feeds.values() if feed.heard_at <= long_ago and not feed.newest.job.finished]
        tokens = {feed.newest.job.token_id for feed in self._feeds.values() if not feed.newest.job.finished}
        for some in (quiet[place : place + ROWS_AT_A_TIME] for place in range(0, len(quiet), ROWS_AT_A_TIME)):
            async with reading(self._engine) as connection:
                found = {job.id: job for job in await self._store.jobs(connection, some)}
            for job_id in some:
                self._take(job_id, found.get(job_id))
        if tokens:
            async with reading(self._engine) as connection:
                self._outlook = await outlook(connection, tokens, self._catalogue)

    def _take(self, job_id: str, job: Job | None) -> None:
        feed = self._feeds.get(job_id)
        if job is not None:
            self.changed(job)
        elif feed is not None:
            feed.gone = True
            self._forget(feed)
            feed.tell()


def _steps(job: Job) -> tuple[int, int, int, int, int, int]:
    """Grows with every change of a job, and is the same only where it looks the same: none of its members ever falls."""
    counts = job.counts
    return (int(job.finished), counts.answered, counts.failed, counts.cancelled, int(job.started_at is not None), int(job.cancelling))
