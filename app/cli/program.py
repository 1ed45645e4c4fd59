"""The program: its commands put together, and its failures put into one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.cli import (
    audit,
    callers,
    check,
    database,
    demo,
    description,
    export,
    jobs,
    keys,
    lanes,
    link,
    proof,
    retention,
    serve,
    simulate,
    tokens,
    vault,
)
from app.cli.records import legible
from app.errors import GatewayError, StartRefused

__all__ = ["main", "program"]

FAILED = 1
REFUSED = 2

program = typer.Typer(
    name="flxpoint-gateway",
    help="Keeps Flxpoint tokens on the server, paces calls to Flxpoint's limit, and proves what happened.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve.serve, demo.demo, simulate.simulate, lanes.lanes, link.link, description.openapi, check.check):
    program.command()(command)
for of_the_record in (export.export, retention.prune):
    audit.group.command()(of_the_record)
proof.add_to(audit.group)
groups = {
    "token": tokens.group,
    "caller": callers.group,
    "jobs": jobs.group,
    "key": keys.group,
    "vault": vault.group,
    "audit": audit.group,
    "db": database.group,
}
for name, group in groups.items():
    program.add_typer(group, name=name)


def main() -> None:
    """Run the command that the arguments name. Exits with 0, 1 (it failed) or 2 (it couldn't start as asked)."""
    try:
        _built()()
    except GatewayError as error:
        _complain(f"{error.code}: {error.detail}")
        sys.exit(FAILED)
    except StartRefused as error:
        _complain(str(error))
        sys.exit(REFUSED)
    except SQLAlchemyError as error:
        _complain(f"GATEWAY_DATABASE_URL: the database can't be used: {error.__cause__ or error}")
        sys.exit(REFUSED)


@cache
def _built() -> Callable[[], object]:
    """What runs the commands; Typer itself would put them all together anew at every call."""
    return typer.main.get_command(program)


def _complain(message: str) -> None:
    """What went wrong may name what lies in the database, whoever put it there."""
    print(*map(legible, message.split("\n")), sep="\n", file=sys.stderr)
