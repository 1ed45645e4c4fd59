"""The commands that read the record."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app.audit import Name, Record, append
from app.opening import open_database
from app.settings import load_settings
from app.storage import writing

from .shell import Ran, Shell

REQUEST = "request-1"
AT = "2026-01-02T03:04:05.678901+00:00"


def record(number: int, name: Name, **members: Any) -> dict[str, Any]:
    """A record as it is stored."""
    return {"id": f"id-{number}", "at": AT, "name": name.value} | members


RECORDS = [
    record(1, Name.TOKEN_ADDED, by="command:ada", subject="shop", kind="account"),
    record(2, Name.CALL_INTENT, request_id=REQUEST, caller="a", token="shop", parameter="orderIds", ids=["1", "2"]),
    record(3, Name.SEND_OUTCOME, request_id=REQUEST, caller="a", token="shop", result="linked", linked_ids=["1", "2"]),
    record(4, Name.CALL_OUTCOME, request_id=REQUEST, caller="a", token="shop", code="ok", linked_ids=[]),
    record(5, Name.CALL_REFUSED, request_id="request-2", caller="b", code="parameter-unknown", reason="'[/x] :smile:' is unknown"),
    record(6, Name.REFUSALS_COUNTED, address="192.0.2.1", code="credentials-missing", count=3),
    record(7, Name.TICKET_ISSUED, caller="c", token="store", ticket_id="ticket-1", origin="https://shop.example", ids=["1"]),
]


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds a few records."""

    async def write() -> None:
        async with open_database(load_settings()) as engine, writing(engine) as connection:
            await append(connection, [Record(Name(one["name"]), json.dumps(one, sort_keys=True)) for one in RECORDS])

    asyncio.run(write())
    return shell


def test_the_newest_records_come_first(shell: Shell) -> None:
    """`audit list --json` gives the records as they are stored, the newest first."""
    assert shell("audit", "list", "--json").document == RECORDS[::-1]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--limit", "2"), [7, 6]),
        (("--caller", "a"), [4, 3, 2]),
        (("--token", "shop"), [4, 3, 2]),
        (("--code", "ok"), [4]),
        (("--caller", "b", "--code", "ok"), []),
        (("--caller", "b", "--code", "parameter-unknown"), [5]),
    ],
)
def test_records_are_narrowed_down(shell: Shell, options: tuple[str, ...], found: list[int]) -> None:
    """Number, caller, token and code narrow the list, together where several are given."""
    document = shell("audit", "list", "--json", *options).document

    assert [one["id"] for one in document] == [f"id-{number}" for number in found]


def test_records_are_a_table_for_people(shell: Shell) -> None:
    """Each record is a line that says when, what, whose and how it ended; nothing in it is taken for a terminal's markup."""
    lines = [line.split(maxsplit=1) for line in shell("audit", "list").out.splitlines()]

    assert lines[0][0] == "at"
    assert {at for at, _ in lines[1:]} == {"2026-01-02T03:04:05.678"}
    assert [" ".join(rest.split()) for _, rest in lines[1:]] == [
        "ticket:issued c store for https://shop.example",
        "refusals:counted credentials-missing 3 times from 192.0.2.1",
        "call:refused request-2 b parameter-unknown '[/x] :smile:' is unknown",
        "call:outcome request-1 a shop ok linked nothing new",
        "send:outcome request-1 a shop linked linked 1, 2",
        "call:intent request-1 a shop orderIds=1,2",
        "token:added shop",
    ]


def test_no_records_are_told_in_words(shell: Shell) -> None:
    """An empty list is one line for people and an empty list for programs."""
    assert shell("audit", "list", "--caller", "nobody").out == "no records\n"
    assert shell("audit", "list", "--caller", "nobody", "--json").document == []


def test_all_of_a_request_is_shown(shell: Shell) -> None:
    """By a request's ID all its records are shown, the oldest first; by a record's ID that one."""
    assert shell("audit", "show", REQUEST, "--json").document == RECORDS[1:4]
    assert shell("audit", "show", "id-1", "--json").document == RECORDS[:1]


def test_a_record_is_shown_member_by_member(shell: Shell) -> None:
    """For people each member has a line of its own, as it is stored, and records stand apart."""
    ran = shell("audit", "show", "request-2")

    lines = [line.split(maxsplit=1) for line in ran.out.splitlines()]
    assert lines.pop() == []
    assert {name: value.strip() for name, value in lines} == RECORDS[4]
    assert shell("audit", "show", REQUEST).out.count("\n\n") == 3


def test_a_reference_to_nothing(shell: Shell) -> None:
    """A reference that is neither a record nor a request is refused with status 1."""
    assert shell("audit", "show", "none") == Ran(1, "", "not-found: there is no record and no request none\n")


@pytest.mark.parametrize("limit", ["0", "10001", "many"])
def test_a_list_has_bounds(shell: Shell, limit: str) -> None:
    """A list has 1 to 10,000 records."""
    assert shell("audit", "list", "--limit", limit).status == 2


def test_reading_needs_no_master_key(shell: Shell) -> None:
    """Who reads the record needs no master key, and none is made for it."""
    shell.set(ENVIRONMENT="production")

    assert len(shell("audit", "list", "--json").document) == len(RECORDS)
    assert not (shell.state_dir / "master.keys").exists()
