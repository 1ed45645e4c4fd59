"""What the commands that read the record share: how it is opened, how filters are written, and what is shown of a record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from app.audit import AuditReader, Wanted
from app.cli.ending import ended_in_order
from app.errors import ParameterInvalid
from app.proving import require_readable
from app.settings import load_settings
from app.storage import ReadingThread, open_engine

__all__ = [
    "COLUMNS",
    "By",
    "Caller",
    "Code",
    "Name",
    "Order",
    "RequestID",
    "Since",
    "Token",
    "Until",
    "legible",
    "read_record",
    "record_rows",
    "wanted_of",
]

COLUMNS = ("number", "at", "name", "request", "caller", "token", "code", "detail")

By = Annotated[str | None, typer.Option(metavar="WHO", help="Only changes made by them, such as command:ada or caller:ops.")]
Caller = Annotated[str | None, typer.Option(help="Only this caller's, and changes made to it.")]
Token = Annotated[str | None, typer.Option(help="Only those of this token, and changes made to it.")]
Order = Annotated[str | None, typer.Option(metavar="ID", help="Only those that ask for this ID or tell of it.")]
Code = Annotated[str | None, typer.Option(help="Only those with this code, such as ok or parameter-missing.")]
Name = Annotated[str | None, typer.Option(help="Only those of this name, such as call:outcome.")]
RequestID = Annotated[str | None, typer.Option("--request", metavar="ID", help="Only those of this request.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Only those made at this time or later: ISO 8601, UTC.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only those made before this time.")]

T = TypeVar("T")


def wanted_of(**given: str | None) -> Wanted:
    """The records that these filters let through.

    Raises:
        typer.BadParameter: a value can't be one.
    """
    try:
        return Wanted.of({name: value for name, value in given.items() if value is not None})
    except ParameterInvalid as error:
        raise typer.BadParameter(error.detail) from None


def read_record(work: Callable[[AuditReader], Awaitable[T]]) -> T:
    """Open the record and read it; nothing is made, and nothing brought to a newer schema.

    Raises:
        SystemExit: a signal ended it.
        StartRefused, SQLAlchemyError
    """
    settings = load_settings()
    require_readable(settings)

    async def run() -> T:
        thread = ReadingThread(open_engine(settings.database))
        try:
            return await work(AuditReader(thread))
        finally:
            await thread.aclose()

    with ended_in_order():
        return asyncio.run(run())


def record_rows(records: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Records as rows of a table."""
    return [[legible(cell) for cell in _cells(record)] for record in records]


def legible(value: object) -> str:
    """A text that does nothing to the terminal that shows it: records hold what strangers sent."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _cells(record: Mapping[str, Any]) -> list[object]:
    return [
        record.get("number"),
        str(record.get("at"))[:23],
        record.get("name"),
        record.get("request_id"),
        record.get("caller"),
        record.get("token"),
        record.get("code") or record.get("result"),
        _detail(record),
    ]


def _detail(record: Mapping[str, Any]) -> str:
    told, by = _told(record), record.get("by")
    return f"{told}, by {by}" if by else told


def _told(record: Mapping[str, Any]) -> str:
    if "linked_ids" in record:
        return f"linked {_joined(record['linked_ids'], ', ') or 'nothing new'}"
    if "ticket_id" in record:
        return f"for {record.get('origin')}"
    if "ids" in record and "reason" not in record:
        return f"{record.get('parameter')}={_joined(record['ids'], ',')}"
    if "key_id" in record:
        return f"{record.get('count')} under {record['key_id']}"
    if "count" in record:
        return f"{record['count']} times from {record.get('address')}"
    return str(record.get("unreadable") or record.get("reason") or record.get("subject") or "")


def _joined(ids: object, between: str) -> str:
    return between.join(map(str, ids)) if isinstance(ids, list) else str(ids)
