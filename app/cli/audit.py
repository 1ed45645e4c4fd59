"""`audit`: reading the record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import list_records, show_records
from app.cli.output import print_json, print_members, print_table
from app.errors import NotFound
from app.opening import open_database
from app.settings import load_settings
from app.storage import reading

__all__ = ["group", "record_rows"]

group = typer.Typer(help="The record of what happened.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
COLUMNS = ("at", "name", "request", "caller", "token", "code", "detail")

Records = list[dict[str, Any]]


@group.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, at most.")] = 50,
    caller: Annotated[str | None, typer.Option(help="Only this caller's.")] = None,
    token: Annotated[str | None, typer.Option(help="Only those of this token.")] = None,
    code: Annotated[str | None, typer.Option(help="Only those that ended so, such as ok or parameter-missing.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """List the newest records, newest first."""
    records = _read(lambda connection: list_records(connection, limit=limit, caller=caller, token=token, code=code))
    if as_json:
        print_json(records)
    else:
        print_table(COLUMNS, record_rows(records), nothing="no records")


@group.command()
def show(
    reference: Annotated[str, typer.Argument(help="A record's ID, or a request's.")],
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Show a record, or all of a request's, oldest first."""
    records = _read(lambda connection: show_records(connection, reference))
    if not records:
        message = f"there is no record and no request {reference}"
        raise NotFound(message)
    if as_json:
        print_json(records)
        return
    for record in records:
        print_members(record)
        print()


def record_rows(records: Records) -> list[list[object]]:
    """Records as rows of a table."""
    return [
        [
            str(record["at"])[:23],
            record["name"],
            record.get("request_id"),
            record.get("caller"),
            record.get("token"),
            record.get("code") or record.get("result"),
            _detail(record),
        ]
        for record in records
    ]


def _detail(record: dict[str, Any]) -> str:
    if "linked_ids" in record:
        return f"linked {', '.join(record['linked_ids']) or 'nothing new'}"
    if "ticket_id" in record:
        return f"for {record['origin']}"
    if "ids" in record:
        return f"{record['parameter']}={','.join(record['ids'])}"
    if "key_id" in record:
        return f"{record['count']} under {record['key_id']}"
    if "count" in record:
        return f"{record['count']} times from {record['address']}"
    return str(record.get("reason") or record.get("subject") or "")


def _read(query: Callable[[AsyncConnection], Awaitable[Records]]) -> Records:
    async def run() -> Records:
        async with open_database(load_settings()) as engine, reading(engine) as connection:
            return await query(connection)

    return asyncio.run(run())
