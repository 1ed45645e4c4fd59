"""`jobs`: one's own jobs at a gateway, or, on the gateway's machine, those of all callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.output import print_json, print_members, print_table
from app.cli.records import legible
from app.cli.remote import cancelled_by_running, job_of_running, jobs_of_running
from app.jobs import JobState

__all__ = ["group"]

group = typer.Typer(
    help="Jobs: over GATEWAY_URL with GATEWAY_KEY one's own, else all those of the gateway that runs on this machine.", no_args_is_help=True
)

COLUMNS = ("job", "caller", "state", "operation", "token", "IDs", "answered", "failed", "cancelled", "linked", "created")
COUNTS = ("total", "answered", "failed", "cancelled", "linked")

JobID = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's ID.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
Job = Mapping[str, Any]


@group.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most, the newest.")] = 50,
    state: Annotated[JobState | None, typer.Option(help="Only those that are this far.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """List jobs, newest first."""
    jobs = jobs_of_running(limit, state)
    if as_json:
        print_json(jobs)
    else:
        print_table(COLUMNS, map(_row, jobs), nothing="no jobs")


@group.command()
def show(job_id: JobID, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show a job."""
    _tell(job_of_running(job_id), as_json=as_json)


@group.command()
def cancel(job_id: JobID, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Have nothing more of a job sent; what is under way comes to its end."""
    _tell(cancelled_by_running(job_id), as_json=as_json)


def _tell(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    counts = {f"{name} IDs": count for name, count in job["counts"].items()}
    plain = {name: legible(value) for name, value in job.items() if not isinstance(value, (Mapping, list))}
    print_members(plain | counts)


def _row(job: Job) -> tuple[object, ...]:
    caller, counts = job.get("caller"), job["counts"]
    return (
        job["id"],
        caller,
        job["state"],
        job["operation"],
        job["token"],
        *(counts[name] for name in COUNTS),
        str(job["created_at"])[:19],
    )
