"""The story of a request: all of it, whichever of its IDs is known, and nothing of others."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.audit import Name
from app.audit.chain import Head
from app.audit.retention import remove_some
from app.audit.story import story_of
from app.storage.embedded import EmbeddedConnection
from tests.storage.database import migrated

from .shelf import CHAIN, made, put_away

SEND: dict[str, Any] = {"send_id": "s-1", "request_id": "r-1", "call_id": "c-1", "call_ids": ["c-1", "c-2"], "token": "shop"}
RECORDS = [
    made(1, Name.CALL_INTENT, request_id="r-1", call_id="c-1", ids=["5"]),
    made(2, Name.CALL_INTENT, request_id="r-2", call_id="c-2", ids=["6"]),
    made(3, Name.SEND_INTENT, **SEND, ids=["5", "6"]),
    made(4, Name.SEND_OUTCOME, **SEND, linked_ids=["5", "6"]),
    made(5, Name.CALL_OUTCOME, request_id="r-1", call_id="c-1", send_id="s-1", ids=["5"]),
    made(6, Name.CALL_OUTCOME, request_id="r-2", call_id="c-2", send_id="s-1", ids=["6"]),
    made(7, Name.SEND_INTENT, send_id="s-2", request_id="r-3", call_id="c-3", call_ids=["c-3"], test=True),
    made(8, Name.TOKEN_TESTED, request_id="r-3", by="command:ada", subject="shop"),
    made(9, Name.TOKEN_ADDED, by="command:ada", subject="shop"),
    made(10, Name.CALL_REFUSED, request_id="9", caller="sly"),
    made(11, Name.CALL_INTENT, request_id="s-1", call_id="c-4", caller="sly"),
]
FIRST, SECOND = [1, 3, 4, 5], [2, 3, 4, 6]
BOTH = sorted({*FIRST, *SECOND})


@pytest_asyncio.fixture
async def connection(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """A database with the records of two calls that shared a send, of a test of a token, and of one who chooses its request's ID slyly."""
    async with migrated(tmp_path / "gateway.db"):
        put_away(tmp_path / "gateway.db", RECORDS)
        connection = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        yield connection
        connection.close()


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("r-1", FIRST),
        ("r-2", SECOND),
        ("c-1", FIRST),
        ("c-2", SECOND),
        ("1", FIRST),
        ("6", SECOND),
        (RECORDS[0].id, FIRST),
        (RECORDS[5].id, SECOND),
        ("3", BOTH),
        (RECORDS[3].id, BOTH),
        ("c-3", [7, 8]),
        ("s-2", [7, 8]),
        ("8", [7, 8]),
        (RECORDS[8].id, [9]),
        ("99", []),
        ("nothing", []),
        ("9" * 19, []),
        ("9" * 30, []),
        ("", []),
    ],
)
def test_every_id_leads_to_the_whole_story(connection: sqlite3.Connection, reference: str, told: list[int]) -> None:
    """A call's story has the send that carried it, also where another call's turn it was; a send's has all calls that it carried."""
    assert [one.number for one in story_of(connection.execute, reference).records] == told


@pytest.mark.parametrize(("reference", "told"), [("9", [9, 10]), ("s-1", [*BOTH, 11])])
def test_a_chosen_request_id_hides_nothing(connection: sqlite3.Connection, reference: str, told: list[int]) -> None:
    """A caller that calls its request like a record's number or another's send gets its records shown beside those, not in their place."""
    assert [one.number for one in story_of(connection.execute, reference).records] == told


def test_an_orders_id_is_no_call(connection: sqlite3.Connection) -> None:
    """A number is a record's, never an order's: orders are asked for otherwise."""
    assert [one.number for one in story_of(connection.execute, "5").records] == FIRST


def test_a_long_story_is_cut_at_its_beginning(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """A request's ID that a caller used ever again leads to the newest 1,000 records, and it is told that there are more."""
    put_away(tmp_path / "gateway.db", [made(number, Name.CALL_REFUSED, request_id="same") for number in range(100, 1_101)])
    story = story_of(connection.execute, "same")

    assert (len(story.records), story.more) == (1_000, True)
    assert story.records[-1].number == 1_012


def test_what_is_removed_leaves_no_ids(connection: sqlite3.Connection) -> None:
    """Pruning takes the IDs of orders, calls and sends along with the records that they lead to, and no others."""
    remove_some(EmbeddedConnection(connection), Head(CHAIN, 4))

    assert {number for (number,) in connection.execute("SELECT number FROM audit_ids")} == {5, 6, 7, 11}
