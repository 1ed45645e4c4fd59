"""Records of a later version: in a rolling update they stand in the database that this version's code reads, proves and tidies up."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from app.audit import AuditReader, Format, Record, Stored, Wanted, heading, rendered
from app.audit.chain import Head, link
from app.audit.endings import send_left
from app.audit.records import Name
from app.audit.unfinished import Unfinished
from app.domain import new_id, utc_now
from app.storage import ReadingThread
from tests.audit.histories import History
from tests.storage.database import opened

LATER: dict[str, Any] = {
    "name": "order:mirrored",
    "ids": ["1001"],
    "caller": "order-service",
    "mirrored": {"deep": [1, {"er": None}]},
}
MORE = {"name": Name.CALL_REFUSED, "mirrored": True}


def later(**members: Any) -> Record:
    """A record as a later version writes it."""
    return Record(members["name"], {"id": new_id(), "at": utc_now(), "request_id": "one"} | members)


@pytest.fixture
def history(empty: History) -> History:
    """A sealed chain in which a later version wrote records of a new name, and of a known one with a new member."""
    made = empty
    made.append(2)
    with made.editing() as connection:
        made._write(connection, made.chain, [later(**LATER), later(**MORE)])
    made.append(2)
    made.checkpoint()
    return made


def test_they_are_proven(history: History) -> None:
    """What a record says is no matter of the proof; that it is where it was written, and unchanged, is."""
    assert history.wrong() == []
    assert history.verified().records == 7


def test_they_are_removed_with_the_others(history: History) -> None:
    """A stretch with them is buried as any, and what is left is proven."""
    history.append(1)
    removed = history.prune()

    assert removed == 7
    assert history.wrong() == []


async def test_they_are_read_with_the_others(history: History) -> None:
    """Listed, found by what they have in common with others, and part of their request's story, with all that they say."""
    async with opened(history.database.address) as engine:
        thread = ReadingThread(engine)
        reader = AuditReader(thread)
        page = await reader.page(Wanted.of({"caller": "order-service"}), limit=10)
        found = await reader.page(Wanted.of({"order": "1001"}), limit=10)
        story = await reader.story("one")
        await thread.aclose()

    [listed] = [one.members() for one in page.records]
    assert {member: listed[member] for member in LATER} == LATER
    assert found.records == page.records
    assert [one.members()["name"] for one in story.records] == [LATER["name"], MORE["name"]]


def test_they_are_exported_with_the_others() -> None:
    """What has no column stands among the others."""
    rows, _ = link(Head("chain-1"), [later(**LATER)], 0)
    kept = [Stored(row.number, row.body.encode(), row.hash) for row in rows]
    [row] = csv.DictReader(io.StringIO((heading(Format.CSV) + rendered(Format.CSV, kept)).decode(), newline=""))

    assert (row["name"], row["ids"]) == (LATER["name"], "1001")
    assert json.loads(row["others"])["mirrored"] == LATER["mirrored"]
    assert rendered(Format.JSONL, kept) == rows[0].body.encode() + b"\n"


def test_they_begin_and_end_no_call() -> None:
    """Whoever ends what a later version's process left passes over what it doesn't know, and keeps what it says."""
    unfinished = Unfinished()
    unfinished.see(1, {"name": Name.SEND_INTENT, "send_id": "s", "call_ids": [], "mirrored": True})
    unfinished.see(2, later(**LATER, send_id="s").members)
    ended = send_left({"name": Name.SEND_INTENT, "send_id": "s", "mirrored": True}, "chain-1")

    assert unfinished.sends == {"s": 1}
    assert ended.members["mirrored"] is True
