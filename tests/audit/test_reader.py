"""Reading the record: what is asked for and nothing else, in pages that stay, without looking through it all."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import AuditReader, Ledger, Name, Page, Signer, Span, Wanted
from app.audit.finding import FIRST_BY_TIME, LAST_BY_TIME, numbers_of, select, walks_of
from app.errors import ParameterInvalid
from app.storage import DatabaseThread, ReadingThread
from tests.records import administrative
from tests.storage.database import ON_SQLITE, Hand, by_hand, migrated, opened

from .shelf import at, made, put_away


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A database of the newest schema."""
    async with opened(database) as engine:
        yield engine


@pytest_asyncio.fixture
async def thread(engine: AsyncEngine) -> AsyncIterator[ReadingThread]:
    """Where the reading is done."""
    made_here = ReadingThread(engine)
    yield made_here
    await made_here.aclose()


@pytest.fixture
def reader(thread: ReadingThread) -> AuditReader:
    """A reader of the database."""
    return AuditReader(thread)


@pytest.fixture
def connection(engine: AsyncEngine, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the test's own."""
    assert engine
    own = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    yield own
    own.close()


def numbers(page: Page) -> list[int]:
    """The numbers of a page's records."""
    return [one.number for one in page.records]


RECORDS = [
    made(1, Name.TOKEN_ADDED, by="command:ada", subject="shop"),
    made(2, Name.CALL_INTENT, request_id="r-1", caller="a", token="shop", call_id="c-1", ids=["4711", "4712"]),
    made(3, Name.CALL_OUTCOME, request_id="r-1", caller="a", token="shop", code="ok", ids=["4711", "4712"], linked_ids=["4712"]),
    made(4, Name.CALL_OUTCOME, request_id="r-2", caller="b", token="shop", code="queue-full", ids=["47"]),
    made(5, Name.CALL_OUTCOME, request_id="r-3", caller="a", token="store", code="queue-full", ids=["4711"]),
    made(6, Name.SEND_OUTCOME, request_id="r-3", caller="a", token="store", result="linked", linked_ids=["9223372036854775807"]),
    made(7, Name.CALLER_DISABLED, by="caller:a", subject="b"),
    made(8, Name.TOKEN_DISABLED, by="caller:a", subject="shop"),
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"caller": "a"}, [6, 5, 3, 2]),
        ({"token": "shop"}, [8, 4, 3, 2, 1]),
        ({"token": "shop", "name": "token:disabled"}, [8]),
        ({"by": "caller:a"}, [8, 7]),
        ({"by": "caller:a", "token": "shop"}, [8]),
        ({"by": "command:ada"}, [1]),
        ({"order": "4711"}, [5, 3, 2]),
        ({"order": "4712"}, [3, 2]),
        ({"order": "47"}, [4]),
        ({"order": "471"}, []),
        ({"order": "9223372036854775807"}, [6]),
        ({"code": "queue-full"}, [5, 4]),
        ({"name": "call:outcome"}, [5, 4, 3]),
        ({"request_id": "r-1"}, [3, 2]),
        ({"since": at(3)}, [8, 7, 6, 5, 4, 3]),
        ({"until": at(3)}, [2, 1]),
        ({"since": at(3.000001), "until": at(5.000001)}, [5, 4]),
        ({"since": at(100)}, []),
        ({"until": at(-100)}, []),
        ({"order": "4711", "caller": "a", "code": "queue-full"}, [5]),
        ({"caller": "b"}, [7, 4]),
        ({"caller": "b", "token": "store"}, []),
        ({"caller": "a", "token": "shop", "since": at(2.5)}, [3]),
        ({"caller": "A"}, []),
    ],
)
async def test_everything_that_is_given_must_hold(
    reader: AuditReader, engine: AsyncEngine, asked: dict[str, str], found: list[int]
) -> None:
    """Each filter narrows the list by exactly what it names, together with the others."""
    put_away(engine, RECORDS)

    page = await reader.page(Wanted.of(asked), limit=100)

    assert (numbers(page), page.next) == (found, None)


async def test_a_record_has_its_place_and_its_hash(reader: AuditReader, engine: AsyncEngine) -> None:
    """What is read is what is stored, with the chain, the place in it, the number, and the hash beside."""
    put_away(engine, RECORDS)
    [first] = (await reader.page(Wanted.of({"name": "token:added"}), limit=1)).records
    shown = first.shown()

    with by_hand(engine) as hand:
        [stored] = hand.execute("SELECT body FROM audit_records WHERE number = 1").fetchone()
    assert first.body == stored.encode()
    assert (shown["number"], shown["seq"], len(shown["chain"]), len(shown["hash"])) == (1, 1, 36, 64)


@pytest.mark.parametrize("asked", [{}, {"caller": "a"}, {"caller": "a", "token": "shop"}, {"since": at(5), "until": at(26)}])
async def test_pages_stay_while_records_are_added(reader: AuditReader, engine: AsyncEngine, asked: dict[str, str]) -> None:
    """Following the cursors gives every record that was there exactly once, newest first, whatever is added between."""
    put_away(engine, [made(number, caller="a", token="shop") for number in range(1, 31)])
    wanted = Wanted.of(asked)
    whole = numbers(await reader.page(wanted, limit=100))

    page = await reader.page(wanted, limit=7)
    seen = numbers(page)
    while page.next:
        put_away(engine, [made(100 + len(seen), caller="a", token="shop", seconds=25)])
        page = await reader.page(wanted, limit=7, cursor=page.next)
        seen += numbers(page)

    assert seen == whole
    assert len(seen) in {30, 21}


@pytest.mark.parametrize("cursor", ["", "x", "made-up", "A" * 32, "=" * 32, "\N{GREEK SMALL LETTER PHI}" * 32, "A" * 10_000])
async def test_a_cursor_that_no_list_gave_is_refused(reader: AuditReader, cursor: str) -> None:
    """Whatever it is, it is a wrong value, not a failure."""
    with pytest.raises(ParameterInvalid, match="cursor"):
        await reader.page(Wanted(), limit=1, cursor=cursor)


@given(place=st.integers(0, 31), other=st.sampled_from("ABCxyz019-_"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
async def test_a_changed_cursor_is_refused(tmp_path: Path, place: int, other: str) -> None:
    """A cursor with one character changed, or one of another list, is refused; so a slip never shows a wrong page."""
    async with migrated(tmp_path / "gateway.db") as engine:
        thread = ReadingThread(engine)
        put_away(tmp_path / "gateway.db", RECORDS)
        reader = AuditReader(thread)
        cursor = (await reader.page(Wanted(), limit=2)).next
        assert cursor
        changed = cursor[:place] + other + cursor[place + 1 :]
        if changed != cursor:
            with pytest.raises(ParameterInvalid, match="cursor"):
                await reader.page(Wanted(), limit=2, cursor=changed)
        with pytest.raises(ParameterInvalid, match="cursor"):
            await reader.page(Wanted(caller="a"), limit=2, cursor=cursor)
        await thread.aclose()


@pytest.mark.parametrize(
    "asked", [{"order": "x"}, {"order": "-1"}, {"order": "1" * 20}, {"name": "call:none"}, {"since": "yesterday"}, {"until": "2026-13-01"}]
)
def test_a_value_that_cant_be_one_is_refused(asked: dict[str, str]) -> None:
    """The refusal names the filter."""
    with pytest.raises(ParameterInvalid, match=next(iter(asked))):
        Wanted.of(asked)


@pytest.mark.parametrize("caller", ["a\0b", "a\nb", "\udc80"])
def test_what_no_text_is_is_refused(caller: str) -> None:
    """A filter is of printable characters, which a database can be asked for."""
    with pytest.raises(ParameterInvalid, match="caller"):
        Wanted.of({"caller": caller})


@pytest.mark.parametrize(
    "written", ["2026-01-02T03:04:05", "2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05.000000"]
)
def test_times_are_utc(written: str) -> None:
    """A time is in UTC where it names no zone, and compared as records have it."""
    assert Wanted.of({"since": written}).since == at(0)


def test_a_day_begins_at_midnight() -> None:
    """A date alone is its first moment."""
    assert Wanted.of({"until": "2026-01-31"}).until == "2026-01-31T00:00:00.000000+00:00"


async def test_a_record_that_had_to_wait_is_found_by_its_time(reader: AuditReader, engine: AsyncEngine) -> None:
    """A record that was written long after it was made, as after an outage, stands among others by number and is found by its own time."""
    late = made(50, seconds=10.5)
    put_away(engine, [*(made(number) for number in range(1, 40)), late, *(made(number) for number in range(40, 45))])

    page = await reader.page(Wanted(since=at(10), until=at(12)), limit=10)

    assert numbers(page) == [40, 11, 10]


async def test_the_stored_time_decides(reader: AuditReader, engine: AsyncEngine) -> None:
    """To the microsecond: since is included, until isn't."""
    put_away(engine, [made(number, seconds=number / 1_000_000) for number in range(1, 10)])

    page = await reader.page(Wanted(since=at(0.000003), until=at(0.000006)), limit=10)

    assert numbers(page) == [5, 4, 3]


async def test_work_is_bounded(reader: AuditReader, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two filters hold for many records each and hardly ever together, a page ends early, and its cursor goes on from there."""
    monkeypatch.setattr("app.audit.finding.MOST_LOOKED_AT", 10)
    both: dict[str, Any] = {"caller": "a", "token": "shop"}
    crowd = [made(number, caller="a") if number % 2 else made(number, token="shop") for number in range(2, 100)]
    put_away(engine, [made(1, **both), *crowd, made(100, **both)])
    page = await reader.page(Wanted.of(both), limit=10)
    pages = [numbers(page)]
    while page.next:
        page = await reader.page(Wanted.of(both), limit=10, cursor=page.next)
        pages.append(numbers(page))

    assert pages[0] == [100]
    assert pages[-1] == [1]
    assert 5 < len(pages) < 20


@ON_SQLITE
@pytest.mark.parametrize("column", ["caller", "token", "code", "name", "by", "request_id", "order", None])
def test_no_filter_looks_through_the_table(connection: sqlite3.Connection, column: str | None) -> None:
    """Each has an index, in the order of the numbers: nothing is scanned and nothing is sorted."""
    wanted = Wanted(**({column: "x"} if column else {}))
    [walk] = walks_of(wanted)
    index = {"order": "PRIMARY KEY", None: "INTEGER PRIMARY KEY"}.get(column, f"ix_audit_records_{column}")

    for query in (walk.newest_first, walk.oldest_first):
        [plan] = plan_of(connection, query, (*walk.value, 1, 2, 3))
        assert plan.startswith("SEARCH")
        assert index in plan


@ON_SQLITE
def test_filters_together_use_each_its_own_index(connection: sqlite3.Connection) -> None:
    """The rarest, an order's ID, comes first."""
    walks = walks_of(Wanted(order="1", caller="a", code="ok"))

    plans = [plan_of(connection, walk.newest_first, (*walk.value, 1, 2, 3))[0] for walk in walks]
    assert [plan.split(" (")[0].rpartition(" ")[2] for plan in plans] == ["KEY", "ix_audit_records_caller", "ix_audit_records_code"]


@ON_SQLITE
@pytest.mark.parametrize("query", [FIRST_BY_TIME, LAST_BY_TIME])
def test_times_use_the_ids_index(connection: sqlite3.Connection, query: str) -> None:
    """Where a period begins and ends is read from the index of the IDs, which are in the order of time."""
    plan = plan_of(connection, query, ("a", "b", 1))

    assert any("SEARCH audit_records USING" in one and "(id>? AND id<?)" in one for one in plan)
    assert not any("SCAN audit_records" in one or "TEMP B-TREE" in one for one in plan)


@ON_SQLITE
@pytest.mark.parametrize(
    ("column", "index"),
    [("id", "sqlite_autoindex_audit_records_1 (id=?"), ("request_id", "ix_audit_records_request_id"), ("value", "PRIMARY KEY (value=?")],
)
def test_a_story_is_read_by_indexes(connection: sqlite3.Connection, column: str, index: str) -> None:
    """Whichever ID it is asked for by."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    numbers_of(connection.execute, column, "x", 10)
    connection.set_trace_callback(None)

    [plan] = plan_of(connection, asked[-1], ())
    assert plan.startswith("SEARCH")
    assert index in plan


def plan_of(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> list[str]:
    """How SQLite goes about a query."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]


MEMBERS = st.fixed_dictionaries(
    {"seconds": st.integers(0, 20)},
    optional={
        "caller": st.sampled_from("ab"),
        "token": st.sampled_from("st"),
        "code": st.sampled_from(["ok", "no"]),
        "ids": st.lists(st.sampled_from("123"), unique=True),
        "linked_ids": st.lists(st.sampled_from("123"), unique=True),
    },
)
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "caller": st.sampled_from("ab"),
        "token": st.sampled_from("st"),
        "code": st.sampled_from(["ok", "no"]),
        "order": st.sampled_from("123"),
        "since": st.integers(0, 20).map(at),
        "until": st.integers(0, 20).map(at),
    },
)


def holds(member: str, value: str, body: dict[str, Any]) -> bool:
    """Whether a record is one of those that a filter lets through."""
    match member:
        case "order":
            return value in (*body.get("ids", ()), *body.get("linked_ids", ()))
        case "since":
            return bool(body["at"] >= value)
        case "until":
            return bool(body["at"] < value)
        case _:
            return bool(body.get(member) == value)


@given(drawn=st.lists(MEMBERS, max_size=30), asked=ASKED, newest_first=st.booleans(), most=st.integers(1, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_what_is_found_is_what_looking_at_each_finds(
    tmp_path: Path,
    drawn: list[dict[str, Any]],
    asked: dict[str, str],
    newest_first: bool,  # noqa: FBT001 - a drawn value
    most: int,
) -> None:
    """Whatever is on record and whatever is asked for: the indexes lead to exactly the records for which all of it holds, in order."""
    async with migrated(tmp_path / "gateway.db"):
        put_away(tmp_path / "gateway.db", [made(number, **one) for number, one in enumerate(drawn, start=1)])
        connection = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        found, rest = [], Span(1, len(drawn)) if drawn else None
        while rest:
            selected = select(connection.execute, Wanted.of(asked), rest, most, newest_first=newest_first)
            found += [one.members() for one in selected.records]
            rest = selected.rest
            assert len(selected.records) <= most
        bodies = [one.members() for one in select(connection.execute, Wanted(), Span(1, 99), 99, newest_first=newest_first).records]
        connection.close()

    assert found == [body for body in bodies if all(holds(member, value, body) for member, value in asked.items())]


async def test_a_long_reading_holds_up_nobody(reader: AuditReader, engine: AsyncEngine) -> None:
    """While one reading goes on and on, the loop turns and records are written; who reads next sees them."""
    begun, ended = threading.Event(), threading.Event()

    def dawdle(execute: Any) -> int:
        number = int(execute("SELECT count(*) FROM audit_records", ()).fetchone()[0])
        begun.set()
        assert ended.wait(10)
        return number

    reading = asyncio.create_task(reader._read(dawdle))
    while not begun.is_set():
        await asyncio.sleep(0)
    writing_thread = DatabaseThread(engine)
    ledger = Ledger(writing_thread, Signer(bytes(32)))
    await ledger.append([administrative(Name.TOKEN_ADDED, "test", "shop")])
    ended.set()
    counted = await reading
    await writing_thread.aclose()

    assert counted == 0
    assert await reader.last() == 2


async def test_a_database_that_cant_be_read_is_told(reader: AuditReader, engine: AsyncEngine) -> None:
    """A failure is the database's own error, and the reader goes on when it is whole again."""
    put_away(engine, RECORDS)
    hand = Hand(engine)
    hand.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
    with pytest.raises(SQLAlchemyError):
        await reader.page(Wanted(), limit=1)
    hand.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")
    hand.close()

    assert numbers(await reader.page(Wanted(), limit=1)) == [8]
