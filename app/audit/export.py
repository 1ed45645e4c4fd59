"""The record as files for others: JSON Lines, byte for byte as stored, and CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from enum import StrEnum

from app.audit.canonical import canonical
from app.audit.finding import Stored

__all__ = ["COLUMNS", "Format", "heading", "rendered"]

COLUMNS = (
    "number",
    "chain",
    "seq",
    "hash",
    "id",
    "at",
    "name",
    "request_id",
    "trace_id",
    "call_id",
    "caller",
    "credential_id",
    "address",
    "origin",
    "operation",
    "parameter",
    "ids",
    "token",
    "decision",
    "code",
    "reason",
    "send_id",
    "call_ids",
    "attempt",
    "attempts",
    "test",
    "written",
    "result",
    "upstream_status",
    "linked_ids",
    "uncertain",
    "queue_ms",
    "upstream_ms",
    "process",
    "finds",
    "count",
    "ticket_id",
    "operations",
    "expires_at",
    "by",
    "subject",
    "others",
)
"""What a line of CSV has: all members of calls' and sends' records. What has no column of its own, such as what was changed of a caller,
stands in `others`, as JSON."""

OTHERS = "others"
LISTS = {"ids", "call_ids", "linked_ids", "operations"}
GUARD = "'"
WHERE_CELLS_BEGIN = r"(?:\A|(?<=[;\t\r\n]))"
GUARDED = re.compile(WHERE_CELLS_BEGIN + r"""(?=[=+\-@\t\r\n"'\uff1d\uff0b\uff0d\uff20])""")
"""Before what a spreadsheet may run. Where it splits lines at semicolons, as in much of Europe, or at tabs, a cell of its own begins after
each within ours, and quotation marks around ours don't count."""


class Format(StrEnum):
    """How the records are written."""

    JSONL = "jsonl"
    CSV = "csv"


def heading(form: Format) -> bytes:
    """What comes before the first record."""
    return _lines([COLUMNS]) if form is Format.CSV else b""


def rendered(form: Format, records: Iterable[Stored]) -> bytes:
    """The records, a line each."""
    return RENDERERS[form](records)


def _as_stored(records: Iterable[Stored]) -> bytes:
    return b"".join(b"%b\n" % one.body for one in records)


def _as_rows(records: Iterable[Stored]) -> bytes:
    return _lines(map(_row, records))


RENDERERS: dict[Format, Callable[[Iterable[Stored]], bytes]] = {Format.JSONL: _as_stored, Format.CSV: _as_rows}


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Rows as RFC 4180 has them, in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _row(record: Stored) -> list[str]:
    members = record.shown()
    others = {name: value for name, value in members.items() if not _has_a_column(name, value)}
    cells = {name: _text(value) for name, value in members.items() if name not in others}
    if others:
        cells[OTHERS] = canonical(others).decode()
    return [_guarded(cells.get(column, "")) for column in COLUMNS]


def _has_a_column(name: str, value: object) -> bool:
    return name in COLUMNS and name != OTHERS and (name in LISTS or not isinstance(value, list | dict))


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _guarded(cell: str) -> str:
    """A cell of which no spreadsheet takes anything for a formula.

    Whoever reads it takes an apostrophe away at its beginning, and after each semicolon, tab and line's end, where one stands there.
    """
    return GUARDED.sub(GUARD, cell)
