"""The record's routes: what was asked for, in pages, for those who may read; whatever else is asked is told to be wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.audit.storing import Execute
from app.audit.story import Story, story_of
from app.callers import NewCaller
from app.domain import Role
from app.storage.thread import MOST_ASKING
from tests import loopback
from tests.audit.shelf import DAMAGES, damaged
from tests.rig import Rig, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDIT = "/gateway/admin/audit"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked(rig: Rig) -> dict[str, Any]:
    """The last record of a call that linked two orders."""
    await rig.link("orderIds=1001,1002", X_Request_ID="requests/a+b")
    return next(one for one in await rig.records() if one["name"] == "call:outcome")


@pytest_asyncio.fixture(loop_scope="module")
async def auditor(rig: Rig, linked: dict[str, Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with an auditor's key, when there is something on record."""
    assert linked["code"] == "ok"
    if any(row.name == "audits" for row in await rig.administer(lambda administration: administration.callers())):
        _, key = await rig.administer(lambda administration: administration.rotate_key("audits"))
    else:
        _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("audits", role=Role.AUDITOR)))
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    async with loopback.async_client(base_url=rig.url, headers=headers, timeout=30) as client:
        yield client


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_the_newest_records_come_first(rig: Rig, auditor: httpx2.AsyncClient) -> None:
    """Without a filter it is everything, as it is on record, each with its hash."""
    await rig.records()
    answer = await auditor.get(AUDIT, params={"limit": 1_000})

    page = answer.json()
    assert (answer.status_code, answer.headers["content-type"], page["next"]) == (200, "application/json", None)
    assert [{name: value for name, value in one.items() if name != "hash"} for one in page["records"]] == (await rig.records())[::-1]
    assert {len(one["hash"]) for one in page["records"]} == {64}


@pytest.mark.parametrize(
    "asked",
    [
        {"order": "1002"},
        {"caller": "order-service", "token": "shop"},
        {"code": "ok", "name": "call:outcome", "since": "2020-01-01", "until": "2999-01-01T00:00+02:00"},
        {"request_id": "requests/a+b"},
    ],
)
async def test_filters_narrow_the_list(auditor: httpx2.AsyncClient, linked: dict[str, Any], asked: dict[str, str]) -> None:
    """What linked an order is found by each of what is known of it."""
    records = (await auditor.get(AUDIT, params=asked)).json()["records"]

    assert linked["id"] in [one["id"] for one in records]
    assert all(one.get("caller") == "order-service" for one in records)


async def test_nothing_is_an_empty_page(auditor: httpx2.AsyncClient) -> None:
    """A list of nothing is no refusal."""
    answer = await auditor.get(AUDIT, params={"order": "999999"})

    assert (answer.status_code, answer.json()) == (200, {"records": [], "next": None})


async def test_a_page_leads_to_the_next(auditor: httpx2.AsyncClient) -> None:
    """By its cursor, with the same filters, to the end."""
    whole = (await auditor.get(AUDIT, params={"token": "shop", "limit": 1_000})).json()["records"]
    page = (await auditor.get(AUDIT, params={"token": "shop", "limit": 1})).json()
    seen = page["records"]
    while page["next"]:
        page = (await auditor.get(AUDIT, params={"token": "shop", "limit": 1, "cursor": page["next"]})).json()
        seen += page["records"]

    assert len(seen) >= 4
    assert seen == whole


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("calller=a", "caller, token"),
        ("caller=a&caller=b", "each once"),
        ("caller=", "with a value"),
        ("caller", "with a value"),
        ("%ff=a", "these parameters only"),
        ("caller=%ff", "these parameters only"),
        ("order=x", "order"),
        ("order=04711", "order"),
        ("name=call:none", "name"),
        ("since=yesterday", "since"),
        ("until=2026-02-30", "until"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=many", "limit"),
        ("cursor=made-up", "cursor"),
        ("caller=a%00b", "caller"),
    ],
)
async def test_a_query_that_cant_be_understood_is_refused(auditor: httpx2.AsyncClient, query: str, named: str) -> None:
    """A slip gets a problem that says what may be asked, never another list than the one that was meant."""
    answer = await auditor.get(f"{AUDIT}?{query}")

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")
    assert named in answer.json()["detail"]


async def test_a_cursor_is_of_one_list(auditor: httpx2.AsyncClient) -> None:
    """With other filters it is refused."""
    cursor = (await auditor.get(AUDIT, params={"limit": 1})).json()["next"]
    answer = await auditor.get(AUDIT, params={"limit": 1, "cursor": cursor, "caller": "order-service"})

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


@pytest.mark.parametrize("member", ["id", "call_id", "send_id", "request_id", "number"])
async def test_every_id_leads_to_the_story(auditor: httpx2.AsyncClient, linked: dict[str, Any], member: str) -> None:
    """A record's, the call's, the send's, the request's, whatever it holds, and the record's number: oldest first."""
    story = (await auditor.get(f"{AUDIT}/{linked[member]}")).json()

    assert [one["name"] for one in story["records"]] == ["call:intent", "send:intent", "send:outcome", "call:outcome"]
    assert story["more"] is False


async def test_a_story_takes_no_query(auditor: httpx2.AsyncClient) -> None:
    """A filter there would be passed over, so it is refused."""
    answer = await auditor.get(f"{AUDIT}/1?caller=a")

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


@pytest.mark.parametrize("reference", ["nothing", "0", "9" * 40, "%00", "a/b/c", ""])
async def test_a_reference_to_nothing_is_not_found(auditor: httpx2.AsyncClient, reference: str) -> None:
    """Whatever it is."""
    answer = await auditor.get(f"{AUDIT}/{reference}")

    assert (answer.status_code, code_of(answer)) == (404, "not-found")


@pytest.mark.parametrize("path", [AUDIT, f"{AUDIT}/1"])
async def test_a_record_that_cant_be_read_is_told(rig: Rig, auditor: httpx2.AsyncClient, path: str) -> None:
    """A problem with a time to come again, and when the database is whole again so is the answer."""
    with closing(sqlite3.connect(rig.settings.database_path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
        try:
            refused = await auditor.get(path)
        finally:
            connection.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")

    assert (refused.status_code, code_of(refused), refused.json()["detail"]) == (503, "audit-unavailable", "the record can't be read now")
    assert refused.headers["Retry-After"] == "1"
    assert (await auditor.get(path)).status_code == 200


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_record_hides_no_other(rig: Rig, auditor: httpx2.AsyncClient, damage: str) -> None:
    """It is shown as what it is, in a list, in one by time and by its number; every answer is JSON, and the other records are there."""
    body, readable = DAMAGES[damage]
    with damaged(rig.settings.database_path, 3, body):
        listed = await auditor.get(AUDIT, params={"limit": 1_000})
        timed = await auditor.get(AUDIT, params={"limit": 1_000, "since": "2020-01-01"})
        story = await auditor.get(f"{AUDIT}/3")

    records = listed.json()["records"]
    [edited] = story.json()["records"]
    assert [answer.status_code for answer in (listed, timed, story)] == [200] * 3
    assert len(records) == records[0]["number"]
    assert records[-3] == edited
    assert len(edited["hash"]) == 64
    assert readable or edited in timed.json()["records"]
    assert readable or set(edited) == {"number", "unreadable", "hash"}


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts who begins to read the story of `endless`, which has no end."""
    begun = threading.Semaphore(0)

    def tell(execute: Execute, reference: str) -> Story:
        if reference == "endless":
            begun.release()
            while True:
                execute("SELECT 1 FROM audit_records LIMIT 1", ()).fetchone()
        return story_of(execute, reference)

    monkeypatch.setattr("app.audit.reader.story_of", tell)
    return begun


async def hang_up(*readings: asyncio.Task[httpx2.Response]) -> None:
    """Close their connections."""
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)


async def test_who_hangs_up_holds_nobody_up(auditor: httpx2.AsyncClient, endless: threading.Semaphore) -> None:
    """What was asked for by a client that has gone is broken off; the next one is served."""
    reading = asyncio.create_task(auditor.get(f"{AUDIT}/endless"))
    await asyncio.to_thread(endless.acquire)
    await hang_up(reading)

    assert (await auditor.get(f"{AUDIT}/1")).status_code == 200


async def test_too_many_are_told_to_come_again(auditor: httpx2.AsyncClient, endless: threading.Semaphore) -> None:
    """Who would have to wait behind many others gets a problem with a time to come again."""

    async def served() -> bool:
        return (await auditor.get(f"{AUDIT}/1")).status_code == 200

    readings = [asyncio.create_task(auditor.get(f"{AUDIT}/endless")) for _ in range(MOST_ASKING + 1)]
    [refused], waiting = await asyncio.wait(readings, return_when=asyncio.FIRST_COMPLETED)
    await hang_up(*waiting)

    assert endless.acquire(blocking=False)
    assert (refused.result().status_code, code_of(refused.result())) == (503, "audit-unavailable")
    assert refused.result().headers["Retry-After"] == "1"
    await until(served)


async def test_the_routes_are_described(rig: Rig) -> None:
    """With every parameter, each of which says what it is."""
    listing = rig.app.openapi()["paths"][AUDIT]["get"]
    names = {one["name"] for one in listing["parameters"]}

    assert names == {"caller", "token", "order", "code", "name", "by", "request_id", "since", "until", "limit", "cursor"}
    assert all(one["description"] for one in listing["parameters"])
