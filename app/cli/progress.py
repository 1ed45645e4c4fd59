"""How a batch gets on, for whoever watches: a bar on a terminal, a line now and then elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from app.cli.batches import Job

__all__ = ["Lines", "Watching", "ended_of", "failed_of", "watching"]

LINE_SECONDS = 30.0
LINE_SHARE = 0.1
SPEED_SECONDS = 120.0


class Watching(Protocol):
    """Shows how a batch gets on."""

    def show(self, job: Job) -> None:
        """The job is like this now."""

    def note(self, text: str) -> None:
        """Something else is to be said meanwhile."""


def ended_of(job: Job) -> int:
    """Of how many IDs the end is known."""
    counts = job["counts"]
    return int(counts["answered"] + counts["failed"] + counts["cancelled"])


def failed_of(job: Job) -> int:
    """How many IDs failed."""
    return int(job["counts"]["failed"])


@contextmanager
def watching() -> Iterator[Watching]:
    """A bar where standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines(lambda text: print(text, file=sys.stderr, flush=True))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), _Failures(), _End())
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=SPEED_SECONDS) as progress:
        yield _Bar(progress)


class Lines:
    """A line when the state changes, when another tenth is done, and after 30 s with none.

    Args:
        write: takes a line.
        clock: seconds that never go back.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._last: tuple[str, str, int] | None = None
        self._at = 0.0

    def show(self, job: Job) -> None:
        """Write a line, where it is time for one."""
        total = max(1, job["counts"]["total"])
        told = (job["id"], job["state"], int(ended_of(job) / total / LINE_SHARE))
        now = self._clock()
        if told != self._last or now - self._at >= LINE_SECONDS:
            self._last, self._at = told, now
            self._write(f"{job['id']}: {job['state']}, {ended_of(job)} of {total} IDs, {failed_of(job)} failed{_until(job)}")

    def note(self, text: str) -> None:
        """Write it."""
        self._write(text)


class _Bar:
    """One bar a job."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, job: Job) -> None:
        """Move its bar."""
        if job["id"] not in self._tasks:
            total = job["counts"]["total"]
            self._tasks[job["id"]] = self._progress.add_task(job["id"], total=total, failed=0, expected_end=None)
        self._progress.update(self._tasks[job["id"]], completed=ended_of(job), failed=failed_of(job), expected_end=job.get("expected_end"))

    def note(self, text: str) -> None:
        """Print it above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)


class _Rate(ProgressColumn):
    """IDs a second, as of the last two minutes."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} IDs/s")


class _Failures(ProgressColumn):
    """How many IDs failed so far."""

    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(f"{failed} failed", style="red" if failed else "")


class _End(ProgressColumn):
    """When it will be done: as the gateway expects, or, where it doesn't say, as the rate so far lets expect."""

    def render(self, task: Task) -> Text:
        said, remaining = task.fields["expected_end"], task.time_remaining
        if task.finished or (said is None and remaining is None):
            return Text("")
        end = datetime.fromisoformat(said) if said else datetime.now(UTC) + timedelta(seconds=remaining or 0)
        return Text(f"ends {_clock_time(end)}")


def _until(job: Job) -> str:
    said = job.get("expected_end")
    return f", ends {_clock_time(datetime.fromisoformat(said))}" if said else ""


def _clock_time(moment: datetime) -> str:
    """In the time of the machine; with the day, where it isn't today."""
    local = moment.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")
