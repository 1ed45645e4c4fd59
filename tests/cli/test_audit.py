"""The commands that read the record."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from app.audit import Name, Record, Signer, append
from app.opening import open_database
from app.settings import load_settings
from app.storage import writing
from tests.audit.shelf import made, put_away

from .processes import environment, started, until
from .shell import Ran, Shell

REQUEST = "request-1"
AT = "2026-01-02T03:04:05.678901+00:00"
PLACE = ("chain", "seq", "number", "hash")


def record(number: int, name: Name, **members: Any) -> dict[str, Any]:
    """A record before it has its place."""
    return {"id": f"id-{number}", "at": AT, "name": name.value} | members


RECORDS = [
    record(1, Name.TOKEN_ADDED, by="command:ada", subject="shop", kind="account"),
    record(2, Name.CALL_INTENT, request_id=REQUEST, caller="a", token="shop", parameter="orderIds", ids=["1", "2"]),
    record(3, Name.SEND_OUTCOME, request_id=REQUEST, caller="a", token="shop", result="linked", linked_ids=["1", "2"]),
    record(4, Name.CALL_OUTCOME, request_id=REQUEST, caller="a", token="shop", code="ok", linked_ids=[]),
    record(5, Name.CALL_REFUSED, request_id="request-2", caller="b", code="parameter-unknown", reason="'[/x] :smile: \x1b[2J' is unknown"),
    record(6, Name.REFUSALS_COUNTED, address="192.0.2.1", code="credentials-missing", count=3),
    record(7, Name.TICKET_ISSUED, caller="c", token="store", ticket_id="ticket-1", origin="https://shop.example", ids=["1"]),
]


def placeless(document: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records but for what their place in the chain gave them; all of them have one."""
    assert all(one["number"] == one["seq"] and one["chain"] == "administration" and len(one["hash"]) == 64 for one in document)
    return [{name: value for name, value in one.items() if name not in PLACE} for one in document]


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds a few records, after the one that opens their chain."""

    async def write() -> None:
        async with open_database(load_settings()) as engine, writing(engine) as connection:
            await append(connection, [Record(Name(one["name"]), one) for one in RECORDS], Signer(bytes(32)))

    asyncio.run(write())
    return shell


def test_the_newest_records_come_first(shell: Shell) -> None:
    """`audit list --json` gives the records as they are stored, with their place and their hash, the newest first."""
    document = shell("audit", "list", "--json").document

    assert document[-1]["name"] == "chain:opened"
    assert placeless(document[:-1]) == RECORDS[::-1]
    assert [one["number"] for one in document] == [8, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--limit", "2"), [7, 6]),
        (("--caller", "a"), [4, 3, 2]),
        (("--token", "shop"), [4, 3, 2, 1]),
        (("--token", "shop", "--name", "token:added"), [1]),
        (("--by", "command:ada"), [1]),
        (("--by", "command:bob"), []),
        (("--code", "ok"), [4]),
        (("--order", "1"), [7, 3, 2]),
        (("--order", "1", "--caller", "a"), [3, 2]),
        (("--name", "call:refused"), [5]),
        (("--request", REQUEST), [4, 3, 2]),
        (("--request", REQUEST, "--before", "5"), [3, 2]),
        (("--request", REQUEST, "--before", "1"), []),
        (("--caller", "b", "--code", "ok"), []),
        (("--caller", "b", "--code", "parameter-unknown"), [5]),
    ],
)
def test_records_are_narrowed_down(shell: Shell, options: tuple[str, ...], found: list[int]) -> None:
    """Each filter narrows the list, together where several are given."""
    document = shell("audit", "list", "--json", *options).document

    assert [one["id"] for one in document] == [f"id-{number}" for number in found]


def test_records_are_found_by_time(shell: Shell) -> None:
    """From a time on, and up to one; a day is its midnight, in UTC."""
    put_away(shell.state_dir / "gateway.db", [made(number, seconds=86_400 * number) for number in range(1, 6)])

    found = shell("audit", "list", "--json", "--since", "2026-01-04", "--until", "2026-01-06").document
    assert [one["at"][:10] for one in found] == ["2026-01-05", "2026-01-04"]


def test_a_list_may_be_longer_than_a_page(shell: Shell) -> None:
    """Up to 10,000, which are read a thousand at a time."""
    put_away(shell.state_dir / "gateway.db", [made(number, caller="z") for number in range(1, 2_101)])

    assert len(shell("audit", "list", "--json", "--caller", "z", "--limit", "2050").document) == 2_050


def test_records_are_a_table_for_people(shell: Shell) -> None:
    """Each record is a line that says when, what, whose and how it ended; nothing in it is markup or a command to the terminal."""
    lines = [line.split(maxsplit=2) for line in shell("audit", "list", "--limit", "7").out.splitlines()]

    assert lines[0][:2] == ["number", "at"]
    assert {at for _, at, _ in lines[1:]} == {"2026-01-02T03:04:05.678"}
    assert [" ".join((number, *rest.split())) for number, _, rest in lines[1:]] == [
        "8 ticket:issued c store for https://shop.example",
        "7 refusals:counted credentials-missing 3 times from 192.0.2.1",
        "6 call:refused request-2 b parameter-unknown '[/x] :smile: \\x1b[2J' is unknown",
        "5 call:outcome request-1 a shop ok linked nothing new",
        "4 send:outcome request-1 a shop linked linked 1, 2",
        "3 call:intent request-1 a shop orderIds=1,2",
        "2 token:added shop, by command:ada",
    ]


def test_a_refusal_tells_its_reason(shell: Shell) -> None:
    """Rather than what could be read of the IDs that it was refused for."""
    refused: dict[str, Any] = {"parameter": "orderIds", "ids": [], "code": "parameter-invalid", "reason": "orderIds: place 1 is no ID"}
    put_away(shell.state_dir / "gateway.db", [made(1, Name.CALL_REFUSED, caller="z", **refused)])

    assert shell("audit", "list", "--caller", "z").out.splitlines()[1].endswith("parameter-invalid  orderIds: place 1 is no ID")


def test_no_records_are_told_in_words(shell: Shell) -> None:
    """An empty list is one line for people and an empty list for programs."""
    assert shell("audit", "list", "--caller", "nobody").out == "no records\n"
    assert shell("audit", "list", "--caller", "nobody", "--json").document == []


def test_the_story_of_a_request_is_shown(shell: Shell) -> None:
    """By a request's ID, or by one of its records' IDs or numbers, all its records are shown, the oldest first."""
    stories = [shell("audit", "show", reference, "--json").document for reference in (REQUEST, "id-3", "3")]

    assert [placeless(story) for story in stories] == [RECORDS[1:4]] * 3
    assert placeless(shell("audit", "show", "id-1", "--json").document) == RECORDS[:1]


def test_a_record_is_shown_member_by_member(shell: Shell) -> None:
    """For people each member has a line of its own, as it is stored but for what a terminal would obey, and records stand apart."""
    ran = shell("audit", "show", "request-2")

    lines = [line.split(maxsplit=1) for line in ran.out.splitlines()]
    assert lines.pop() == []
    shown = {name: value.strip() for name, value in lines if name not in PLACE}
    assert shown == RECORDS[4] | {"reason": "'[/x] :smile: \\x1b[2J' is unknown"}
    assert shell("audit", "show", REQUEST).out.count("\n\n") == 3


def test_a_long_story_is_cut(shell: Shell) -> None:
    """The newest 1,000 records are shown, and that there are more is said where it disturbs no program."""
    put_away(shell.state_dir / "gateway.db", [made(number, request_id="same") for number in range(1, 1_003)])
    ran = shell("audit", "show", "same", "--json")

    assert ran.err == "only the newest 1000 records are shown\n"
    assert len(json.loads(ran.out)) == 1_000


def test_a_reference_to_nothing(shell: Shell) -> None:
    """A reference that leads to nothing is refused with status 1."""
    assert shell("audit", "show", "none") == Ran(1, "", "not-found: there is no record, request, call or send none\n")


@pytest.mark.parametrize(
    "options",
    [
        ("--limit", "0"),
        ("--limit", "10001"),
        ("--limit", "many"),
        ("--before", "0"),
        ("--order", "x"),
        ("--order", "04711"),
        ("--order", ""),
        ("--caller", ""),
        ("--name", "call:none"),
        ("--since", "yesterday"),
        ("--until", "2026-13-01"),
        ("--caller", "a\nb"),
        ("--follow", "--limit", "5"),
        ("--follow", "--until", "2026-01-01"),
    ],
)
def test_what_cant_be_listed_is_a_slip(shell: Shell, options: tuple[str, ...]) -> None:
    """A value that can't be one, or options that don't go together, end with status 2."""
    ran = shell("audit", "list", *options)

    assert (ran.status, ran.out) == (2, "")


def test_reading_needs_no_master_key(shell: Shell) -> None:
    """Who reads the record needs no master key, and none is made for it."""
    shell.set(ENVIRONMENT="production")

    assert len(shell("audit", "list", "--json").document) == len(RECORDS) + 1
    assert not (shell.state_dir / "master.keys").exists()


@pytest.mark.parametrize("options", [("--json",), ()], ids=["for programs", "for people"])
def test_records_are_followed(shell: Shell, tmp_path: Path, options: tuple[str, ...]) -> None:
    """What comes is shown as it comes, oldest first, if it is wanted; Ctrl-C ends it with status 130 and without a word."""
    database, numbers = shell.state_dir / "gateway.db", iter(range(1, 10_000))
    variables = environment(STATE_DIR=shell.state_dir)
    with started("audit", "list", "--follow", "--caller", "z", *options, variables=variables, folder=tmp_path / "out") as following:

        def begun() -> bool:
            put_away(database, [made(next(numbers), caller="z", code="first")])
            return "first" in following.out

        until(begun)
        put_away(database, [made(next(numbers), caller=caller, code=f"{caller}-{place}") for place in range(3) for caller in ("y", "z")])
        until(lambda: "z-2" in following.out)
        following.process.send_signal(signal.SIGINT)
        status = following.process.wait(10)
        lines = [line for line in following.out.splitlines() if "first" not in line]

    assert (status, following.err) == (130, "")
    assert len(lines) == 3
    assert all(f"z-{place}" in line for place, line in enumerate(lines))
    if options:
        assert [json.loads(line)["code"] for line in lines] == ["z-0", "z-1", "z-2"]
