"""The record as files: what is stored, and what spreadsheets can't run."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit import Format, Name, Stored, heading, rendered
from app.audit.chain import Head, link
from app.audit.export import COLUMNS
from app.audit.records import (
    CallIntent,
    CallOutcome,
    CallRefused,
    RefusalsCounted,
    SendIntent,
    SendOutcome,
    TicketIssued,
    TokenEchoed,
)

from .shelf import made

RUN = ("=", "+", "-", "@", "\t", "\r", "\n")


def stored(*members: dict[str, Any]) -> list[Stored]:
    """Records that hold this, chained."""
    rows, _ = link(Head("chain-1"), [made(number, Name.CALL_REFUSED, **one) for number, one in enumerate(members, start=1)], 0)
    return [Stored(row.number, row.body.encode(), row.hash) for row in rows]


def rows_of(*members: dict[str, Any]) -> list[dict[str, str]]:
    """What a reader of CSV makes of those records."""
    text = (heading(Format.CSV) + rendered(Format.CSV, stored(*members))).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_json_lines_are_the_stored_bytes() -> None:
    """Byte for byte, so that the chain can be computed from the file."""
    records = stored({"reason": "naïve\n\N{SNOWMAN}"}, {"caller": "b"})

    assert heading(Format.JSONL) == b""
    assert rendered(Format.JSONL, records) == b"".join(one.body + b"\n" for one in records)


def test_the_heading_is_fixed() -> None:
    """Every file has every column, whatever is in it."""
    assert heading(Format.CSV) == (",".join(COLUMNS) + "\r\n").encode()


def test_all_of_a_call_has_columns() -> None:
    """Every member that the records of calls, sends and tickets may have stands in a column of its own."""
    kinds = (CallIntent, CallOutcome, CallRefused, RefusalsCounted, SendIntent, SendOutcome, TokenEchoed, TicketIssued)

    assert {member.name for kind in kinds for member in fields(kind)} <= set(COLUMNS)


def test_a_row_has_a_cell_for_each_member() -> None:
    """Lists of IDs and operations are joined by spaces; what has no column of its own is there as JSON, and the hash is there too."""
    [row] = rows_of({"caller": "a", "ids": ["1", "2"], "uncertain": False, "attempts": 2, "queue_ms": 1.25, "probes": ["a b"], "grace": 3})

    assert {name: row[name] for name in ("number", "chain", "seq", "caller", "ids", "uncertain", "attempts", "queue_ms", "token")} == {
        "number": "1",
        "chain": "chain-1",
        "seq": "1",
        "caller": "a",
        "ids": "1 2",
        "uncertain": "false",
        "attempts": "2",
        "queue_ms": "1.25",
        "token": "",
    }
    assert json.loads(row["others"]) == {"probes": ["a b"], "grace": 3}
    assert len(row["hash"]) == 64


def test_a_member_that_is_called_like_the_last_column_has_no_column() -> None:
    """It isn't taken for what the column holds."""
    assert json.loads(rows_of({"others": "x"})[0]["others"]) == {"others": "x"}


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "'"])
def test_no_cell_is_a_formula(begins: str) -> None:
    """A spreadsheet takes a cell with an apostrophe before it for text."""
    assert rows_of({"reason": f'{begins}HYPERLINK("https://evil.example")'})[0]["reason"].startswith(f"'{begins}")


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("between", ["{}=1+cmd|'/Ccalc'!A0{}y", '{}"=1+1"{}', '"{}@SUM(1)', "\n=1{}"])
def test_no_part_of_a_cell_is_a_formula(delimiter: str, between: str) -> None:
    """A spreadsheet that splits lines at semicolons or tabs, as others than ours do, finds none between them either."""
    text = rendered(Format.CSV, stored({"reason": "x" + between.replace("{}", delimiter)})).decode()

    for part in (part for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) for part in row):
        assert not part.startswith(RUN)


@given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(";\t\r\n'\"=+-@"))))
def test_every_text_can_be_read_back(text: str) -> None:
    """Whatever it holds: with an apostrophe taken from its beginning and after each `;`, tab and line's end, it is what the record has."""
    [row] = rows_of({"reason": text})

    assert re.sub(r"(\A|[;\t\r\n])'", r"\1", row["reason"]) == text
    assert not any(part.startswith(RUN) for part in re.split(r"[;\t\r\n]", row["reason"]))
