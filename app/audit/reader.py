"""Reading the record back: pages newest first, what comes in oldest first, and the story of a request.

All of it on a connection of its own, in a thread of its own: a long reading holds up neither the event loop nor the writer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select as rows_of
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.cursors import cursor_of, span_of
from app.audit.finding import Selected, Span, Stored, beginning, numbers_of, select, stored
from app.audit.records import Name
from app.audit.storing import Execute, last_number
from app.audit.story import Story, story_of
from app.audit.wanted import Wanted
from app.storage import Connection, ReadingThread
from app.storage.tables import audit_records

__all__ = ["MOST_IN_PAGE", "AuditReader", "OutcomeMissing", "Page", "list_records"]

MOST_IN_PAGE = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first, and the cursor of the next page; None where there is nothing left."""

    records: list[Stored]
    next: str | None


class OutcomeMissing(Exception):
    """A call is on record and its outcome isn't, yet."""


class AuditReader:
    """Reads the record. Each answer is of one moment, and takes a bounded time.

    Args:
        thread: does the reading; nobody else's.

    Every method raises `SQLAlchemyError` where the database can't be read, `Crowded` among them where too many ask at once.
    """

    def __init__(self, thread: ReadingThread) -> None:
        self._thread = thread

    async def page(self, wanted: Wanted, *, limit: int, cursor: str | None = None, before: int | None = None) -> Page:
        """The newest records that are wanted.

        A page may have fewer than `limit`, or none, and still a next one: at most 10,000 records are looked at for one.

        Args:
            wanted: which.
            limit: how many, 1 to 1,000.
            cursor: where the page before ended; what was added since then changes nothing.
            before: only records with lower numbers.

        Raises:
            ParameterInvalid: the cursor isn't one of this list.
        """
        given = span_of(cursor, wanted) if cursor is not None else None
        selected = await self._read(lambda execute: _page(execute, wanted, given, limit, before))
        return Page(selected.records, cursor_of(selected.rest, wanted) if selected.rest else None)

    async def story(self, reference: str) -> Story:
        """All of what a request's ID, or that of a record, a call or a send, or a record's number leads to."""
        return await self._read(lambda execute: story_of(execute, reference))

    async def outcome(self, call_id: str) -> dict[str, Any] | None:
        """How a call ended; None where it was never taken in.

        Raises:
            OutcomeMissing: it was taken in and hasn't ended, as far as is known.
        """
        found = await self._read(
            lambda execute: [one.members() for one in stored(execute, numbers_of(execute, "value", call_id, MOST_IN_PAGE))]
        )
        ends = [one for one in found if one.get("name") == Name.CALL_OUTCOME]
        if found and not ends:
            raise OutcomeMissing(call_id)
        return ends[0] if ends else None

    async def last(self) -> int:
        """The last record's number; 0 where there is none."""
        return await self._read(last_number)

    async def span(self, wanted: Wanted) -> Span | None:
        """Where the wanted records are, as of now; None where there are none."""
        return await self._read(lambda execute: beginning(execute, wanted))

    async def forward(self, wanted: Wanted, span: Span, *, most: int = MOST_IN_PAGE) -> Selected:
        """The oldest records of a span that are wanted, and what is left of it."""
        return await self._read(lambda execute: select(execute, wanted, span, most, newest_first=False))

    async def _read(self, work: Callable[[Execute], T]) -> T:
        return await self._thread.run(lambda connection: _of_one_moment(connection, work))


def _of_one_moment(connection: Connection, work: Callable[[Execute], T]) -> T:
    connection.begin_reading()
    result = work(connection.execute)
    connection.execute("COMMIT")
    return result


def _page(execute: Execute, wanted: Wanted, given: Span | None, limit: int, before: int | None) -> Selected:
    span = given or beginning(execute, wanted)
    if span and before is not None:
        span = Span(span.low, min(span.high, before - 1))
    if span is None or span.low > span.high:
        return Selected([], None)
    selected = select(execute, wanted, span, limit + 1, newest_first=True)
    if len(selected.records) <= limit:
        return selected
    records = selected.records[:limit]
    return Selected(records, span.beyond(records[-1].number, newest_first=True))


async def list_records(
    connection: AsyncConnection, *, limit: int, caller: str | None = None, token: str | None = None, code: str | None = None
) -> list[dict[str, Any]]:
    """The newest records, newest first: at most `limit`, only those of a caller, token or code where one is named.

    For those who have a transaction already.
    """
    query = rows_of(audit_records.c.body).order_by(audit_records.c.number.desc()).limit(limit)
    wanted = {audit_records.c.caller: caller, audit_records.c.token: token, audit_records.c.code: code}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    return [json.loads(body) for body in (await connection.execute(query)).scalars()]
