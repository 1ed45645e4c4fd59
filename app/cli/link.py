"""`link`: a file of IDs, sent to a gateway as a batch and followed to its end."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from app.catalogue import load_catalogue
from app.cli.batches import Batches, Job, ResultForm, at_gateway
from app.cli.idlist import IdList, named, read_ids
from app.cli.output import revised_file
from app.cli.progress import Watching, watching
from app.cli.records import legible
from app.cli.remote import check_job_id, code_of
from app.domain import Parameter, Priority
from app.errors import GatewayError, StartRefused
from app.jobs import JobState
from app.settings import load_settings

__all__ = ["link"]

JOB_IDS = 100_000
RATE = 2
SOME_FAILED = 1
INTERRUPTED = 128 + signal.SIGINT
SHOWN_FAILURES = 5
PROGRAM = "flxpoint-gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is to be done with a file's IDs: with those behind the first `skip`."""

    file: str
    param: str
    operation: str
    token: str | None
    priority: Priority
    skip: int

    def batch(self, ids: Sequence[int]) -> dict[str, object]:
        """As the gateway takes it."""
        asked: dict[str, object] = {"operation": self.operation, "parameter": self.param, "ids": list(ids), "priority": self.priority.value}
        return asked | ({"token": self.token} if self.token else {})

    def command(self, skip: int, result: _Result) -> str:
        """The command that sends the IDs behind the first `skip`."""
        token = ["--token", self.token] if self.token else []
        words = ["link", "--param", self.param, "--file", self.file, "--operation", self.operation, *token]
        return shlex.join([PROGRAM, *words, "--priority", self.priority.value, "--skip", str(skip), *result.options])


@dataclass(frozen=True, slots=True)
class _Result:
    """Where the result goes, and in which form, as far as that was said."""

    path: Path | None
    said: ResultForm | None

    @property
    def form(self) -> ResultForm:
        """The form that was said, else as the file's name ends."""
        if self.said:
            return self.said
        return ResultForm.CSV if self.path and self.path.suffix.lower() == ".csv" else ResultForm.JSONL

    @property
    def options(self) -> list[str]:
        """The options that say the same."""
        path = ["--output", str(self.path)] if self.path else []
        return [*path, *(["--format", self.said.value] if self.said else [])]

    def opened(self) -> AbstractContextManager[BinaryIO | None]:
        """The file, if there is to be one."""
        return revised_file(self.path) if self.path else nullcontext()


@dataclass(slots=True)
class _Run:
    """Jobs, one after the other: those that ended, and the one that is under way."""

    batches: Batches
    watching: Watching
    form: ResultForm
    file: BinaryIO | None
    ended: list[Job] = field(default_factory=list)
    under_way: str | None = None
    sent: int = 0
    unsent: int = 0

    def send(self, asked: _Asked, ids: Sequence[int]) -> None:
        """Send all the IDs, as many as a job takes at a time."""
        self.unsent = len(ids)
        for piece in _pieces(ids):
            self.under_way = None
            job = self.batches.send(asked.batch(piece))
            self.sent, self.unsent = self.sent + len(piece), self.unsent - len(piece)
            self.follow(job["id"])

    def follow(self, job_id: str) -> None:
        """Follow a job to its end, and write its result."""
        check_job_id(job_id)
        self.under_way = job_id
        for job in self.batches.followed(job_id):
            self.watching.show(job)
        self.ended.append(job)
        if self.file:
            self.batches.write_result(job_id, self.form, self.file)


def link(  # noqa: PLR0913 - options of the command line
    *,
    param: Annotated[str | None, typer.Option(help="The parameter that the IDs are for, such as orderIds.")] = None,
    file: Annotated[str | None, typer.Option(help="UTF-8: an ID a line, or CSV with IDs in its first column; - is standard input.")] = None,
    token: Annotated[str | None, typer.Option(help="The token's name; the caller's default or only one without.")] = None,
    operation: Annotated[str, typer.Option(help="The operation.")] = "link-orders",
    priority: Annotated[Priority, typer.Option(help="Against the caller's other calls.")] = Priority.BATCH,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many IDs at the beginning, those of earlier jobs.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write the result to this file, which is there once it is complete.")] = None,
    form: Annotated[ResultForm | None, typer.Option("--format", help="The result's form; as the file's name ends without.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="JOB_ID", help="Follow this job instead of sending a file.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check the file and say what would be done, without a gateway.")] = False,
) -> None:
    """Send a file of IDs to the gateway at GATEWAY_URL as a batch, and follow it. Status 1: some failed; 2: it couldn't be done."""
    result = _Result(output, form)
    if resume is not None:
        if file is not None or param is not None or dry_run:
            message = "it follows a job that was sent, so --file, --param and --dry-run don't go with it"
            raise typer.BadParameter(message, param_hint="--resume")
        with _interruptible():
            _carry_out(lambda run: run.follow(resume), result, None)
        return
    if file is None or param is None:
        message = "both are needed, or --resume"
        raise typer.BadParameter(message, param_hint="--param and --file")
    asked = _Asked(file=file, param=param, operation=operation, token=token, priority=priority, skip=skip)
    with _interruptible():
        listed = read_ids(file)
        ids = _behind(listed, asked)
        if dry_run:
            _tell_plan(asked, listed, ids)
        else:
            _carry_out(lambda run: run.send(asked, ids), result, asked)


def _behind(listed: IdList, asked: _Asked) -> tuple[int, ...]:
    ids = listed.ids[asked.skip :]
    if not ids:
        message = f"--skip: the file has {len(listed.ids)} IDs, so none is left"
        raise StartRefused(message)
    return ids


def _pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + JOB_IDS] for start in range(0, len(ids), JOB_IDS))


def _tell_plan(asked: _Asked, listed: IdList, ids: Sequence[int]) -> None:
    """Say what would be done, by the catalogue that is here."""
    parameter = _parameter(asked)
    sends = sum(-(-len(piece) // parameter.max_items) for piece in _pieces(ids))
    jobs = -(-len(ids) // JOB_IDS)
    header = " under a header" if listed.headed else ""
    print(f"{named(asked.file)}: {len(listed.ids)} IDs{header}; {listed.repeated} repeated ones are left out, {asked.skip} skipped")
    print(f"would ask for {asked.operation} by {asked.param}: {len(ids)} IDs, jobs: {jobs}")
    print(f"sends: {sends}, of {parameter.max_items} IDs at most; about {_duration(sends / RATE)} at {RATE} a second")


def _parameter(asked: _Asked) -> Parameter:
    catalogue = load_catalogue(load_settings().catalogue)
    if asked.operation not in catalogue:
        message = f"--operation: the catalogue has none of that name, but {', '.join(one.id for one in catalogue)}"
        raise StartRefused(message)
    parameters = {one.name: one for one in catalogue[asked.operation].parameters}
    if asked.param not in parameters:
        message = f"--param: {asked.operation} has none of that name, but {', '.join(parameters)}"
        raise StartRefused(message)
    return parameters[asked.param]


def _duration(seconds: float) -> str:
    """Such as `50 s`, `4 min 10 s` or `2 h 47 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _carry_out(work: Callable[[_Run], None], result: _Result, asked: _Asked | None) -> None:
    """Do it, and say how it ended.

    Raises:
        typer.Exit: with 1 where some IDs failed, with 130 where it was interrupted.
        StartRefused: it couldn't be done, or not to its end.
    """
    with result.opened() as file, watching() as shown, at_gateway(shown.note) as batches:
        run = _Run(batches, shown, result.form, file)
        with _guided(run, asked, result):
            work(run)
    _conclude(run.ended, result.path)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _guided(run: _Run, asked: _Asked | None, result: _Result) -> Iterator[None]:
    """Where the work is broken off, say how to go on.

    Raises:
        StartRefused: in place of a problem: it couldn't be done.
        KeyboardInterrupt, OSError
    """
    try:
        yield
    except GatewayError as error:
        _guide(run, asked, result)
        message = f"{error.code}: {legible(error.detail)}"
        raise StartRefused(message) from None
    except KeyboardInterrupt:
        if run.under_way is None:
            run.watching.note(f"interrupted while a batch was sent; `{PROGRAM} jobs list` shows whether the gateway has it")
        _guide(run, asked, result)
        raise
    except (StartRefused, OSError):
        _guide(run, asked, result)
        raise


def _guide(run: _Run, asked: _Asked | None, result: _Result) -> None:
    if run.under_way:
        run.watching.note(f"the gateway goes on with job {run.under_way}")
        run.watching.note(f"to follow it: {shlex.join([PROGRAM, 'link', '--resume', run.under_way, *result.options])}")
        run.watching.note(f"to cancel it: {PROGRAM} jobs cancel {run.under_way}")
    if run.ended and run.unsent:
        run.watching.note(f"jobs that ended before: {', '.join(job['id'] for job in run.ended)}")
    if asked and run.sent and run.unsent:
        run.watching.note(f"{run.unsent} IDs were not sent; to send them: {asked.command(asked.skip + run.sent, result)}")


def _conclude(jobs: Sequence[Job], output: Path | None) -> None:
    """Say how they ended.

    Raises:
        typer.Exit: not all succeeded.
    """
    for job in jobs:
        print(f"job {job['id']}: {job['state']}")
    sums = {name: sum(job["counts"][name] for job in jobs) for name in ("total", "answered", "linked", "failed", "cancelled")}
    print("{total} IDs: {answered} answered, {linked} linked, {failed} failed, {cancelled} cancelled".format_map(sums))
    if any(job["uncertain"] for job in jobs):
        print("uncertain: more may have been linked than is known")
    if output:
        print(f"the result is in {output}")
    if any(job["state"] != JobState.SUCCEEDED for job in jobs):
        _tell_failures(jobs, sums["failed"])
        raise typer.Exit(SOME_FAILED)


def _tell_failures(jobs: Sequence[Job], count: int) -> None:
    failures = list(islice((one for job in jobs for one in job.get("failures", ())), SHOWN_FAILURES))
    for one in failures:
        print(f"{one['id']}: {code_of(one['problem'])}: {legible(one['problem'].get('detail'))}", file=sys.stderr)
    if failures and count > len(failures):
        print(f"and {count - len(failures)} more", file=sys.stderr)
