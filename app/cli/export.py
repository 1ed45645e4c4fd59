"""`audit export`: the record as a file, or into a pipe, whatever its size."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.audit import AuditReader, Format, Wanted, heading, rendered
from app.cli.ending import ended_in_order
from app.cli.output import complete_file, standard_output
from app.cli.records import By, Caller, Code, Name, Order, RequestID, Since, Token, Until, legible, read_record, wanted_of

__all__ = ["export"]

Told = Callable[[float], None]
"""Hears which share of the work is done, 0 to 1."""


def export(  # noqa: PLR0913 - options of the command line
    *,
    form: Annotated[Format, typer.Option("--format", help="JSON Lines, byte for byte as stored, or CSV.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option(help="The file, which is there once it is complete; standard output without.")] = None,
    caller: Caller = None,
    token: Token = None,
    order: Order = None,
    code: Code = None,
    name: Name = None,
    by: By = None,
    request_id: RequestID = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write out records, oldest first."""
    wanted = wanted_of(
        caller=caller, token=token, order=order, code=code, name=name, by=by, request_id=request_id, since=since, until=until
    )
    if output is None:
        with ended_in_order(), standard_output() as file, _progress(visible=not sys.stdout.isatty()) as told:
            read_record(lambda reader: _write_all(reader, wanted, form, file, told))
        return
    with ended_in_order(), complete_file(output) as file, _progress(visible=True) as told:
        count = read_record(lambda reader: _write_all(reader, wanted, form, file, told))
    print(f"exported {count} records to {legible(output)}")


async def _write_all(reader: AuditReader, wanted: Wanted, form: Format, file: BinaryIO, told: Told) -> int:
    """Write what is there by now, a page at a time; gives how many there were."""
    file.write(heading(form))
    whole = rest = await reader.span(wanted)
    count = 0
    while whole and rest:
        selected = await reader.forward(wanted, rest)
        file.write(rendered(form, selected.records))
        count, rest = count + len(selected.records), selected.rest
        told((rest.low - whole.low) / (whole.high - whole.low + 1) if rest else 1)
    file.flush()
    return count


@contextmanager
def _progress(*, visible: bool) -> Iterator[Told]:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn("exporting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not (visible and sys.stderr.isatty())) as progress:
        task = progress.add_task("exporting", total=1.0)
        yield lambda share: progress.update(task, completed=share)
