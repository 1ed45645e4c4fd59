"""Jobs and keys while the database fails: each route says so, and what to do; what is taken in is never called refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.storage import writing
from tests.batches import BATCHES, HELD, JOBS, ask_batch, bearing, code_of, get, hold
from tests.rig import TOKEN, Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with two tokens, one of which sends nothing."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, HELD), caller_rate="10000/second") as running:
        await hold(running)
        yield running


@asynccontextmanager
async def without(rig: Rig, table: str) -> AsyncIterator[None]:
    """While the context lasts a table isn't there."""
    await rename(rig, table, f"{table}_aside")
    try:
        yield
    finally:
        await rename(rig, f"{table}_aside", table)


async def rename(rig: Rig, table: str, name: str) -> None:
    """Call a table otherwise."""
    async with writing(rig.house.engine) as connection:
        await connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


@contextmanager
def unreadable_after(engine: AsyncEngine, stored: str) -> Iterator[None]:
    """Nothing can be read any more once a transaction with a statement that begins so is committed."""
    seen = committed = False

    def on_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal seen
        seen = seen or statement.startswith(stored)
        if committed and statement.startswith("SELECT"):
            raise OperationalError(statement, None, OSError())

    def on_commit(_: object) -> None:
        nonlocal committed
        committed = seen

    event.listen(engine.sync_engine, "before_cursor_execute", on_statement)
    event.listen(engine.sync_engine, "commit", on_commit)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", on_statement)
        event.remove(engine.sync_engine, "commit", on_commit)


def assert_refused(answer: httpx2.Response) -> None:
    """It says that the database fails, and when to come back."""
    assert (answer.status_code, code_of(answer)) == (503, "audit-unavailable"), answer.text
    assert "ask again" in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "1"


async def held_job(rig: Rig) -> str:
    """The place of a job of which nothing is sent."""
    return (await ask_batch(rig, rig.key, [1], token="held")).headers["Location"]


@pytest.mark.parametrize("path", ["", "/{}", "/{}/result", "/{}/result?partial=true", "/{}/events"])
async def test_a_job_that_cant_be_read_is_unavailable(rig: Rig, path: str) -> None:
    """On every route that shows one's jobs."""
    job_id = (await held_job(rig)).rpartition("/")[2]
    async with without(rig, "jobs"):
        answer = await get(rig, rig.key, JOBS + path.format(job_id))

    assert_refused(answer)


async def test_a_job_that_cant_be_read_isnt_cancelled(rig: Rig) -> None:
    """The caller is told to ask again, and then it is."""
    location = await held_job(rig)
    async with without(rig, "jobs"):
        answer = await rig.client.delete(rig.url + location, headers=bearing(rig.key))
    again = await rig.client.delete(rig.url + location, headers=bearing(rig.key))

    assert_refused(answer)
    assert (again.status_code, again.json()["cancelling"]) == (200, True)


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": '"a-batch"'}])
@pytest.mark.parametrize("table", ["jobs", "job_parts"])
async def test_a_batch_that_cant_be_stored_is_refused(rig: Rig, table: str, key: dict[str, str]) -> None:
    """With a key or without, and wherever its storing fails."""
    body = {"operation": "link-orders", "parameter": "orderIds", "ids": [1], "token": "held"}
    async with without(rig, table):
        answer = await rig.client.post(rig.url + BATCHES, json=body, headers=bearing(rig.key) | key)

    assert_refused(answer)


@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": '"later"'}])
async def test_a_call_that_cant_be_stored_is_refused(rig: Rig, headers: dict[str, str]) -> None:
    """A call that is to be answered later isn't sent without its job."""
    async with without(rig, "jobs"):
        answer = await rig.link("orderIds=1", Gateway_Token="shop", Prefer="respond-async", **headers)

    assert_refused(answer)


async def test_a_call_whose_key_cant_be_looked_up_is_refused(rig: Rig) -> None:
    """It could be a repetition."""
    async with without(rig, "idempotency"):
        answer = await rig.link("orderIds=1", Gateway_Token="shop", Idempotency_Key='"unknown"')

    assert_refused(answer)


async def test_a_repetition_that_the_record_would_answer_is_refused(rig: Rig) -> None:
    """Where the answer isn't kept, and the record can't be read, nobody knows whether the call was made."""
    asked = {"Gateway_Token": "shop", "Idempotency_Key": '"on-record"'}
    first = await rig.link("orderIds=1001", **asked)
    async with writing(rig.house.engine) as connection:
        await connection.execute(text("UPDATE idempotency SET answer = NULL"))
    async with without(rig, "audit_records"):
        answer = await rig.link("orderIds=1001", **asked)

    assert first.status_code == 200
    assert_refused(answer)


async def test_a_batch_that_is_stored_is_taken_in(rig: Rig) -> None:
    """Where it can't be read back its answer shows what is known; its end can't be told."""
    with unreadable_after(rig.house.engine, "INSERT INTO job_parts"):
        answer = await ask_batch(rig, rig.key, [1, 2], token="held")
    job = (await get(rig, rig.key, answer.headers["Location"])).json()

    assert (answer.status_code, answer.json()["id"], answer.json()["counts"]["total"]) == (202, job["id"], 2)
    assert answer.json()["expected_seconds"] is None


async def test_a_call_that_is_stored_is_taken_in(rig: Rig) -> None:
    """It is carried out, so its caller is told of its job."""
    with unreadable_after(rig.house.engine, "INSERT INTO job_parts"):
        answer = await rig.link("orderIds=1002", Gateway_Token="held", Prefer="respond-async")

    assert answer.status_code == 202
    assert (await get(rig, rig.key, answer.headers["Location"])).json()["id"] == answer.json()["id"]


async def test_a_job_that_is_cancelled_is_called_so(rig: Rig) -> None:
    """Once that is on disk the answer says it, though the job can't be read back."""
    location = await held_job(rig)
    with unreadable_after(rig.house.engine, "UPDATE jobs SET cancelling"):
        answer = await rig.client.delete(rig.url + location, headers=bearing(rig.key))

    assert (answer.status_code, answer.json()["cancelling"]) == (200, True)
