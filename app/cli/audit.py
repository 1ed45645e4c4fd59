"""`audit`: reading the record."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from app.audit import MOST_IN_PAGE, AuditReader, Span, Stored, Wanted
from app.cli.output import print_json, print_members, print_table, standard_output
from app.cli.records import (
    COLUMNS,
    By,
    Caller,
    Code,
    Name,
    Order,
    RequestID,
    Since,
    Token,
    Until,
    legible,
    read_record,
    record_rows,
    wanted_of,
)
from app.errors import NotFound

__all__ = ["group"]

group = typer.Typer(help="The record of what happened.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
USUAL_LIMIT = 50
POLL_SECONDS = 0.5
WIDTHS = (9, 23, 16)

Print = Callable[[Stored], None]


@group.command("list")
def list_(  # noqa: PLR0913 - options of the command line
    *,
    limit: Annotated[int | None, typer.Option(min=1, max=10_000, help="How many, at most.", show_default=str(USUAL_LIMIT))] = None,
    before: Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Only those before this one: the next page.")] = None,
    caller: Caller = None,
    token: Token = None,
    order: Order = None,
    code: Code = None,
    name: Name = None,
    by: By = None,
    request_id: RequestID = None,
    since: Since = None,
    until: Until = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show those to come, as they come, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """List the newest records, newest first."""
    wanted = wanted_of(
        caller=caller, token=token, order=order, code=code, name=name, by=by, request_id=request_id, since=since, until=until
    )
    if follow:
        if any(one is not None for one in (limit, before, since, until)):
            message = "--follow shows what is to come: it goes with no --limit, --before, --since and --until"
            raise typer.BadParameter(message)
        with standard_output():
            read_record(lambda reader: _follow(reader, wanted, _print_line if as_json else _print_row))
        return
    records = read_record(lambda reader: _newest(reader, wanted, limit or USUAL_LIMIT, before))
    with standard_output():
        if as_json:
            print_json([one.shown() for one in records])
        else:
            print_table(COLUMNS, record_rows(one.members() for one in records), nothing="no records")


@group.command()
def show(
    reference: Annotated[str, typer.Argument(help="A request's ID, a record's, a call's or a send's; or a record's number.")],
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Show the whole story of a request, oldest first, with the sends that carried its calls."""
    story = read_record(lambda reader: reader.story(reference))
    if not story.records:
        message = f"there is no record, request, call or send {legible(reference)}"
        raise NotFound(message)
    if story.more:
        print(f"only the newest {len(story.records)} records are shown", file=sys.stderr)
    with standard_output():
        if as_json:
            print_json([one.shown() for one in story.records])
            return
        for record in story.records:
            print_members({name: legible(value) for name, value in record.shown().items()})
            print()


async def _newest(reader: AuditReader, wanted: Wanted, limit: int, before: int | None) -> list[Stored]:
    page = await reader.page(wanted, limit=min(limit, MOST_IN_PAGE), before=before)
    records = page.records
    while page.next and len(records) < limit:
        page = await reader.page(wanted, limit=min(limit - len(records), MOST_IN_PAGE), cursor=page.next)
        records += page.records
    return records


async def _follow(reader: AuditReader, wanted: Wanted, print_one: Print) -> None:
    """Show the records that come, oldest first, for ever."""
    seen = await reader.last()
    while True:
        last = await reader.last()
        rest = Span(seen + 1, last) if last > seen else None
        while rest:
            selected = await reader.forward(wanted, rest)
            for record in selected.records:
                print_one(record)
            rest = selected.rest
        seen = last
        await asyncio.sleep(POLL_SECONDS)


def _print_line(record: Stored) -> None:
    print(json.dumps(record.shown(), ensure_ascii=False), flush=True)


def _print_row(record: Stored) -> None:
    [cells] = record_rows([record.members()])
    fixed = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    print("  ".join([*fixed, *(cell for cell in cells[len(WIDTHS) :] if cell)]), flush=True)
