"""`GET /gateway/jobs/{id}/result`: a line for each ID, as JSON Lines or CSV."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import insert, select, update

from app.jobs import JobState, PartState
from app.storage import writing
from app.storage.tables import job_parts, jobs
from tests.batches import HELD, ask_batch, bearing, caller_with, code_of, ended, get, hold
from tests.rig import TOKEN, Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with two tokens, one of which sends nothing."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, HELD)) as running:
        await hold(running)
        yield running


def lines_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The JSON Lines of an answer."""
    assert answer.headers["Content-Type"] == "application/jsonl"
    return [json.loads(line) for line in answer.text.splitlines()]


async def stored_job(rig: Rig, key: str, *parts: dict[str, Any], parameter: str = "orderIds") -> str:
    """Where a finished job is that has these parts."""
    asked = (await ask_batch(rig, key, [1], token="held", parameter=parameter)).json()["id"]
    total = sum(len(part["ids"].split(",")) for part in parts)
    linked = sum(len(part["linked"].split(",")) for part in parts if part.get("linked"))
    failed = sum(len(part["ids"].split(",")) for part in parts if part["state"] in {"failed", "expired"})
    async with writing(rig.house.engine) as connection:
        row = (await connection.execute(select(jobs).where(jobs.c.id == asked))).mappings().one()
        made = {"id": asked[:-4] + "beef", "state": JobState.PARTLY_FAILED, "total": total, "linked": linked, "failed": failed}
        finished = {"finished_at": row["created_at"], "owner": None, "lease_until": None}
        await connection.execute(insert(jobs).values(dict(row) | made | finished))
        usual = {"job_id": made["id"], "uncertain": 0, "linked": "", "problem": None}
        await connection.execute(insert(job_parts), [usual | {"seq": seq} | part for seq, part in enumerate(parts, start=1)])
    return f"/gateway/jobs/{made['id']}/result"


PROBLEM = json.dumps(
    {"type": "/gateway/problems/upstream-error", "title": "Flxpoint failed", "status": 502, "detail": 'it said "no", twice'}
)
PARTS = (
    {"ids": "7,8", "state": PartState.ANSWERED, "linked": "8,99"},
    {"ids": "9", "state": PartState.FAILED, "problem": PROBLEM, "uncertain": 1},
    {"ids": "10", "state": PartState.CANCELLED},
    {"ids": "11", "state": PartState.EXPIRED},
)


async def test_each_id_has_a_line(rig: Rig) -> None:
    """What became of it, whether it was linked, and its problem; orders that nobody asked for come at the end."""
    key = await caller_with(rig, "lines", "held")
    answer = await get(rig, key, await stored_job(rig, key, *PARTS))
    late = {"code": "deadline-exceeded", "detail": "the job's time ran out before its turn came; nothing was sent"}

    assert answer.status_code == 200
    assert lines_of(answer) == [
        {"id": 7, "outcome": "answered", "linked": False, "uncertain": False},
        {"id": 8, "outcome": "answered", "linked": True, "uncertain": False},
        {"id": 9, "outcome": "failed", "uncertain": True, "code": "upstream-error", "detail": 'it said "no", twice'},
        {"id": 10, "outcome": "cancelled", "uncertain": False},
        {"id": 11, "outcome": "expired", "uncertain": False, **late},
        {"linked_order": 99},
    ]


@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "application/jsonl"), ("", "text/csv, */*;q=0.5")])
async def test_a_result_can_be_csv(rig: Rig, query: str, accept: str) -> None:
    """The same as a table, quoted where it must be; the query comes before `Accept`."""
    key = await caller_with(rig, f"csv-{bool(query)}", "held")
    answer = await get(rig, key, await stored_job(rig, key, *PARTS) + query, Accept=accept)
    rows = list(csv.DictReader(StringIO(answer.text)))

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["Content-Disposition"].endswith('.csv"')
    assert [row["id"] for row in rows] == ["7", "8", "9", "10", "11", ""]
    assert [row["linked"] for row in rows] == ["false", "true", "", "", "", ""]
    assert (rows[2]["code"], rows[2]["detail"], rows[2]["uncertain"]) == ("upstream-error", 'it said "no", twice', "true")
    assert rows[-1]["linked_order"] == "99"


async def test_orders_of_other_ids_come_at_the_end(rig: Rig) -> None:
    """Flxpoint's answer for items and channels lists orders: of an ID it doesn't tell whether it was linked."""
    key = await caller_with(rig, "channels", "held")
    parts = [{"ids": "7,8", "state": PartState.ANSWERED, "linked": "8,99"}, {"ids": "9", "state": PartState.ANSWERED, "linked": "9"}]
    lines = lines_of(await get(rig, key, await stored_job(rig, key, *parts, parameter="channelIds")))

    assert lines[:3] == [{"id": one, "outcome": "answered", "uncertain": False} for one in (7, 8, 9)]
    assert lines[3:] == [{"linked_order": one} for one in (8, 99, 9)]


async def test_a_job_that_was_carried_out_has_its_result(rig: Rig) -> None:
    """One that Flxpoint doesn't know, one that was linked before, and one that is linked now."""
    key = await caller_with(rig, "real")
    await ended(rig, await ask_batch(rig, key, [1001]))
    asked = await ask_batch(rig, key, [1002, 1001, 999_999_999])
    await ended(rig, asked)
    lines = lines_of(await get(rig, key, f"{asked.headers['Location']}/result"))

    assert [(line["id"], line["linked"]) for line in lines] == [(1002, True), (1001, False), (999_999_999, False)]


async def test_a_job_that_isnt_finished_has_a_result_for_who_asks_for_a_part(rig: Rig) -> None:
    """Without a word it is a conflict, with when to come again."""
    key = await caller_with(rig, "early", "held")
    location = (await ask_batch(rig, key, [1, 2])).headers["Location"]
    refused = await get(rig, key, f"{location}/result")
    refused_too = await get(rig, key, f"{location}/result?partial=false")
    partial = await get(rig, key, f"{location}/result?partial=true")

    assert [(one.status_code, code_of(one)) for one in (refused, refused_too)] == [(409, "conflict")] * 2
    assert int(refused.headers["Retry-After"]) >= 1
    assert lines_of(partial) == [{"id": one, "outcome": "waiting", "uncertain": False} for one in (1, 2)]


@pytest.mark.parametrize("query", ["format=xml", "format=", "partial=maybe", "colour=red", "format=csv&format=csv"])
async def test_a_result_that_cant_be_is_refused(rig: Rig, query: str) -> None:
    """A form that there isn't, a parameter that isn't known."""
    answer = await get(rig, rig.key, f"/gateway/jobs/none/result?{query}")

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


async def test_a_large_result_takes_little_memory(rig: Rig) -> None:
    """100,000 lines are read from the database as they are sent: all come, and the process holds a small part of them at a time."""
    key = await caller_with(rig, "large", "held")
    first = 2**63 - 100_001
    parts = [
        {"ids": (ids := ",".join(str(first + seq * 50 + place) for place in range(50))), "state": PartState.ANSWERED, "linked": ids}
        for seq in range(2_000)
    ]
    path, lines, size = await stored_job(rig, key, *parts), 0, 0
    del parts
    tracemalloc.start()
    try:
        async with rig.client.stream("GET", rig.url + path, headers=bearing(key)) as answer:
            async for chunk in answer.aiter_bytes():
                lines, size = lines + chunk.count(b"\n"), size + len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert lines == 100_000
    assert size == 80 * lines
    # Much less than the rows take, 100,000 lines; what measures coverage takes its own share.
    assert peak < 10 * 10**6


async def test_a_result_that_isnt_whole_doesnt_end_well(rig: Rig) -> None:
    """Where rows are missing the connection breaks off, so that nobody takes what came for all there is."""
    key = await caller_with(rig, "torn", "held")
    path = await stored_job(rig, key, *PARTS)
    async with writing(rig.house.engine) as connection:
        await connection.execute(update(jobs).where(jobs.c.id == path.split("/")[3]).values(total=6))

    with pytest.raises(httpx2.RemoteProtocolError):
        await get(rig, key, path)
