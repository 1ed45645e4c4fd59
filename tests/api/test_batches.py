"""`POST /gateway/batches`: what is taken, in which forms, and what is refused with nothing taken in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from fastapi import Request
from sqlalchemy import func, select
from starlette.types import Message

from app.api import batches
from app.jobs import MOST_IDS
from app.storage import reading
from app.storage.tables import job_parts, jobs
from tests.batches import BATCHES, HELD, ask_batch, ask_file, bearing, caller_with, code_of, ended, hold
from tests.rig import TOKEN, Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "a-secret-that-stood-in-the-list"
QUERY = "operation=link-orders&parameter=orderIds"
SHOP = "https://shop.example"
LARGEST = 2**63 - 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with two tokens, one of which sends nothing."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, HELD), cors_origins=(SHOP,)) as running:
        await hold(running)
        yield running


async def stored(rig: Rig) -> int:
    """How many jobs there are."""
    async with reading(rig.house.engine) as connection:
        return int((await connection.execute(select(func.count()).select_from(jobs))).scalar_one())


async def ids_of(rig: Rig, job_id: str) -> list[int]:
    """The IDs that a job asks for, in their order."""
    async with reading(rig.house.engine) as connection:
        query = select(job_parts.c.ids).where(job_parts.c.job_id == job_id).order_by(job_parts.c.seq)
        return [int(one) for row in await connection.execute(query) for one in row.ids.split(",")]


def request_of(body: bytes, kind: str) -> Request:
    """A request for a batch, as far as the reader looks at it."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", kind.encode())]
    return Request({"type": "http", "method": "POST", "path": BATCHES, "query_string": QUERY.encode(), "headers": headers}, receive)


# --- taken


async def test_a_batch_becomes_a_job_that_is_carried_out(rig: Rig) -> None:
    """The answer names the job and says when it should end; later every ID has been linked, with one send for 50 of them."""
    key = await caller_with(rig, "takes")
    answer = await ask_batch(rig, key, [*range(1001, 1061), 1001])
    shown = answer.json()
    job = await ended(rig, answer)

    assert (answer.status_code, answer.headers["Location"]) == (202, f"/gateway/jobs/{shown['id']}")
    assert (shown["state"], shown["counts"]["total"], shown["priority"], shown["token"]) == ("queued", 60, "batch", "shop")
    assert 1 <= shown["expected_seconds"] <= 3
    assert shown["expected_end"] > shown["created_at"]
    assert (job.state, job.counts.answered, job.counts.linked) == ("succeeded", 60, 60)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/plain", b"7\n8\n9\n"),
        ("text/plain; charset=UTF-8", b"7\r\n8\r\n\r\n9"),
        ("text/plain", b"\xef\xbb\xbf7\n 8 \n9\n\n"),
        ("text/csv", b"7\n8\n9\n"),
        ("text/csv", b"order\n7\n8\n9\n"),
        ("text/csv", b'\xef\xbb\xbf"Order ID",note\r\n"7","first, or\r\nnot"\r\n8,\r\n9,x\r\n'),
        ("text/csv; header=absent", b"7,a\n8,b\n9,c\n"),
        ("text/csv; charset=utf-8; header=present", b"1\n7\n8\n9\n"),
    ],
)
async def test_a_file_is_a_batch(rig: Rig, kind: str, text: bytes) -> None:
    """One ID a line, or in a CSV file's first column, whatever the line ends; a header may be there, and a byte order mark."""
    answer = await ask_file(rig, await caller_with(rig, f"file-{hash((kind, text)):x}".replace("--", "-"), "held"), text, kind)

    assert answer.status_code == 202
    assert await ids_of(rig, answer.json()["id"]) == [7, 8, 9]


async def test_a_files_query_says_the_rest(rig: Rig) -> None:
    """Token and priority stand beside operation and parameter."""
    query = "operation=link-orders&parameter=channelIds&token=held&priority=interactive"
    answer = await ask_file(rig, rig.key, b"7", query=query)

    assert {name: answer.json()[name] for name in ("parameter", "token", "priority")} == {
        "parameter": "channelIds",
        "token": "held",
        "priority": "interactive",
    }


async def test_the_largest_batch_is_taken_in_either_form(rig: Rig) -> None:
    """100,000 of the longest IDs fit, as JSON and as a CSV file with quotes, and none is lost or changed."""
    ids = list(range(LARGEST - MOST_IDS + 1, LARGEST + 1))
    key = await caller_with(rig, "largest", "held")
    quoted = "".join(f'"{one}"\r\n' for one in ids).encode()
    answers = [await ask_batch(rig, key, ids), await ask_file(rig, key, quoted, "text/csv")]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert [await ids_of(rig, answer.json()["id"]) == ids for answer in answers] == [True, True]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/csv"])
async def test_the_loop_does_other_work_while_ids_are_looked_at(kind: str) -> None:
    """Lanes that send meanwhile aren't held up: of 100,000 IDs 2,000 are looked at at a time."""
    lines = "".join(f"{one}\n" for one in range(1, MOST_IDS + 1)).encode()
    listed = json.dumps({"operation": "link-orders", "parameter": "orderIds", "ids": [*range(1, MOST_IDS + 1)]}).encode()
    reading_it = asyncio.create_task(batches.read_batch(request_of(listed if kind == "application/json" else lines, kind)))
    turns = 0
    while not reading_it.done():
        await asyncio.sleep(0)
        turns += 1

    assert len((await reading_it).ids) == MOST_IDS
    assert turns >= MOST_IDS // 2_000


async def test_a_batch_is_on_record(rig: Rig) -> None:
    """Who asked, for what, with which token, and how many IDs; the calls' records name the same request."""
    key = await caller_with(rig, "recorded")
    answer = await ask_batch(rig, key, [1101, 1102])
    job = await ended(rig, answer)
    records = [one for one in await rig.records() if one.get("caller") == "recorded"]
    accepted = next(one for one in records if one["name"] == "job:accepted")

    assert {name: accepted[name] for name in ("job_id", "credential_id", "operation", "parameter", "token", "priority", "count")} == {
        "job_id": job.id,
        "credential_id": key.split("_")[1],
        "operation": "link-orders",
        "parameter": "orderIds",
        "token": "shop",
        "priority": "batch",
        "count": 2,
    }
    assert "ids" not in accepted
    assert {one["request_id"] for one in records} == {answer.headers["X-Request-ID"]}
    assert {one["name"] for one in records} >= {"job:accepted", "call:intent", "call:outcome"}


# --- refused


async def test_an_empty_list_is_refused(rig: Rig) -> None:
    """In every form: there is nothing to do."""
    before = await stored(rig)
    answers = [await ask_batch(rig, rig.key, [])]
    answers += [
        await ask_file(rig, rig.key, text, kind) for kind in ("text/plain", "text/csv") for text in (b"", b"\n\r\n", b"\xef\xbb\xbf")
    ]
    answers += [await ask_file(rig, rig.key, b"order\n", "text/csv")]

    assert {(answer.status_code, code_of(answer)) for answer in answers} == {(400, "parameter-missing")}
    assert await stored(rig) == before


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/csv"])
async def test_one_id_too_many_is_refused_with_what_to_do(rig: Rig, kind: str) -> None:
    """100,001 IDs are to be cut into several batches."""
    before, ids = await stored(rig), range(1, MOST_IDS + 2)
    lines = "".join(f"{one}\n" for one in ids).encode()
    answer = await (ask_batch(rig, rig.key, ids) if kind == "application/json" else ask_file(rig, rig.key, lines, kind))

    assert (answer.status_code, code_of(answer), answer.json()["max_items"]) == (400, "parameter-invalid", MOST_IDS)
    assert "cut the list into several batches" in answer.json()["detail"]
    assert await stored(rig) == before


@pytest.mark.parametrize("wrong", ["", "0", "-1", "1.0", "1e3", "+1", "01", "٣", "9223372036854775808", SECRET])
async def test_a_wrong_id_is_named_by_its_line(rig: Rig, wrong: str) -> None:
    """Line 73,812 of a CSV file with a header: nothing of it is taken in, and what stood there isn't said back."""
    before = await stored(rig)
    lines = ["id,note", *(f"{number},x" for number in range(2, 100_000))]
    lines[73_811] = f"{wrong},x"
    answer = await ask_file(rig, rig.key, "\n".join(lines).encode(), "text/csv")

    assert (answer.status_code, code_of(answer), answer.json()["line"]) == (400, "parameter-invalid", 73_812)
    assert "line 73812" in answer.json()["detail"]
    assert SECRET not in answer.text
    assert await stored(rig) == before


@pytest.mark.parametrize("wrong", [0, -1, 2**63, 2**64, 1.5, True, None, "7", [7], SECRET])
async def test_a_wrong_id_is_named_by_its_place(rig: Rig, wrong: object) -> None:
    """In JSON it is the place in the list; a text isn't a number."""
    answer = await ask_batch(rig, rig.key, [7, 8, wrong, 9, wrong])

    assert (answer.status_code, code_of(answer), answer.json()["place"]) == (400, "parameter-invalid", 3)
    assert SECRET not in answer.text


async def test_plain_text_has_no_header(rig: Rig) -> None:
    """Only a CSV file may have one."""
    answer = await ask_file(rig, rig.key, b"order\n7\n")

    assert (code_of(answer), answer.json()["line"]) == ("parameter-invalid", 1)


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("text/plain", b"7\n8\n\xe9\n", 3),
        ("text/csv", b"7,a\n8,\xe9\n", 2),
        ("text/plain", "7\n8\n".encode("utf-16"), 1),
        ("text/csv", b'7,a\n8,"b"c\n', 2),
        ("text/csv", b'7\n"8\n9\n', 3),
    ],
)
async def test_a_file_that_cant_be_read_is_refused(rig: Rig, kind: str, text: bytes, line: int) -> None:
    """Another encoding than UTF-8, or quotes that don't fit: the line is named."""
    answer = await ask_file(rig, rig.key, text, kind)

    assert (answer.status_code, code_of(answer), answer.json()["line"]) == (400, "request-malformed", line)


async def test_an_upload_that_is_cut_off_leaves_nothing(rig: Rig) -> None:
    """Where the connection ends before the body does, not even the whole lines that came are taken in."""
    before, address = await stored(rig), urlsplit(rig.url)
    for framing, sent in (("Content-Length: 100", b"7\n8\n9\n"), ("Transfer-Encoding: chunked", b"6\r\n7\n8\n9\n\r\n")):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST {BATCHES}?{QUERY}&token=held HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {rig.key}\r\nContent-Type: text/csv\r\n"
        )
        writer.write(f"{head}{framing}\r\n\r\n".encode() + sent)
        writer.write_eof()
        await reader.read()
        writer.close()

    assert await stored(rig) == before
    assert "request-malformed" in {one["code"] for one in await rig.records() if one["name"] == "refusals:counted"}


async def test_a_body_that_is_too_large_is_refused(rig: Rig) -> None:
    """100,000 IDs with all that stands around them need no more than 4 MiB."""
    answer = await ask_file(rig, rig.key, b"7\n" * (batches.MOST_BATCH_BYTES // 2 + 1))

    assert (answer.status_code, code_of(answer)) == (413, "body-too-large")


async def test_a_body_that_comes_too_slowly_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has longer than other bodies, and not for ever."""
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0.2)
    address = urlsplit(rig.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {BATCHES}?{QUERY} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {rig.key}\r\nContent-Type: text/csv\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n7\n".encode())
    answer = await reader.read()
    writer.close()

    assert b"408 Request Timeout" in answer
    assert b"request-timeout" in answer


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"operation": "no-such-operation"}, 404, "not-found"),
        ({"parameter": "orders"}, 400, "parameter-unknown"),
        ({"parameter": SECRET}, 400, "parameter-unknown"),
        ({"token": "nobodys"}, 403, "token-not-granted"),
        ({}, 400, "token-ambiguous"),
        ({"colour": "red"}, 400, "request-malformed"),
        ({"priority": "highest"}, 400, "request-malformed"),
        ({"operation": 7}, 400, "request-malformed"),
        ({"ids": 7}, 400, "request-malformed"),
        ({"ids": {"7": 7}}, 400, "request-malformed"),
    ],
)
async def test_what_cant_be_asked_for_is_refused(rig: Rig, given: dict[str, object], status: int, code: str) -> None:
    """As of calls: the operation, its parameter and the token must be there and be the caller's."""
    before = await stored(rig)
    answer = await ask_batch(rig, rig.key, [7], **given)

    assert (answer.status_code, code_of(answer)) == (status, code)
    assert SECRET not in answer.text
    assert await stored(rig) == before


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[7]",
        "{",
        "[" * 100_000,
        '\ufeff{"operation": "link-orders", "parameter": "orderIds", "ids": [7]}',
        '{"operation": "link-orders", "parameter": "orderIds", "ids": [NaN]}',
        '{"operation": "link-orders", "parameter": "orderIds", "ids": [{}]}',
        '{"operation": "link-orders", "parameter": "orderIds"}x',
        '{"operation": "link-orders", "parameter": "orderIds", "ids": [7], "ids": [8]}',
        '{"operation": "link-orders", "parameter": "orderIds", "ids": [7], "i\\u0064s": [8]}',
        '{"operation": "link-orders", "operation" : "link-orders", "parameter": "orderIds", "ids": [7]}',
    ],
)
async def test_json_that_two_readers_could_understand_differently_is_refused(rig: Rig, body: str) -> None:
    """One object, in which each name stands once."""
    answer = await rig.client.post(
        rig.url + BATCHES, content=body.encode(), headers=bearing(rig.key) | {"Content-Type": "application/json"}
    )

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


@pytest.mark.parametrize("query", ["", "operation=link-orders", f"{QUERY}&colour=red", f"{QUERY}&parameter=orderIds", f"{QUERY}&token="])
async def test_a_files_query_must_say_what_it_is_for(rig: Rig, query: str) -> None:
    """Operation and parameter, each once, and nothing that isn't known."""
    answer = await ask_file(rig, rig.key, b"7", query=query)

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


@pytest.mark.parametrize(
    "kind", ["", "text/html", "application/x-www-form-urlencoded", "text/csv; header=maybe", "text/csv; charset=latin-1"]
)
async def test_another_type_is_refused(rig: Rig, kind: str) -> None:
    """JSON, CSV and plain text are taken, in UTF-8."""
    answer = await ask_file(rig, rig.key, b"7", kind)

    assert (answer.status_code, code_of(answer)) == (415, "media-type-not-supported")


async def test_a_refused_batch_is_counted(rig: Rig) -> None:
    """It never became calls: it stands in the sums of refusals, by caller and code, however many IDs it had."""
    key = await caller_with(rig, "counted")
    await ask_batch(rig, key, [7, 0])
    await ask_batch(rig, key, [7], token="nobodys")
    found = {one["code"]: one["count"] for one in await rig.records() if one.get("caller") == "counted"}

    assert found == {"parameter-invalid": 1, "token-not-granted": 1}


async def test_a_ticket_may_ask_for_its_own_ids_only(rig: Rig) -> None:
    """A page's batch is held to the IDs that its ticket names, all of them."""
    key = await caller_with(rig, "pages", "held")
    given = await rig.client.post(f"{rig.url}/gateway/tickets", json={"origin": SHOP, "ids": [7, 8]}, headers=bearing(key))
    page = bearing(given.json()["ticket"]) | {"Origin": SHOP}
    asked = {"operation": "link-orders", "parameter": "orderIds"}
    answers = [await rig.client.post(rig.url + BATCHES, json=asked | {"ids": ids}, headers=page) for ids in ([7, 8], [7, 9])]
    other = await rig.client.post(rig.url + BATCHES, json=asked | {"ids": [7], "parameter": "channelIds"}, headers=page)

    assert [answer.status_code for answer in answers] == [202, 403]
    assert [code_of(answer) for answer in (answers[1], other)] == ["ticket-ids-not-allowed"] * 2
    assert answers[0].headers["Access-Control-Allow-Origin"] == SHOP
    assert "Location" in answers[0].headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [("batches", "POST"), ("jobs", "GET"), ("jobs/x", "DELETE, GET"), ("jobs/x/events", "GET"), ("jobs/x/result", "GET")],
)
async def test_pages_are_told_what_they_may_ask(rig: Rig, path: str, methods: str) -> None:
    """The preflights of all routes of jobs are answered."""
    asked = {"Origin": SHOP, "Access-Control-Request-Method": methods.split(", ", maxsplit=1)[0]}
    answer = await rig.client.options(f"{rig.url}/gateway/{path}", headers=asked)

    assert (answer.status_code, answer.headers["Access-Control-Allow-Methods"]) == (204, methods)


# --- how much


async def test_a_caller_may_have_so_many_jobs_and_ids(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Beyond either the answer says what there is, what there may be and what to do; another caller has its own."""
    async with rigged(tmp_path_factory.mktemp("small"), (HELD,), jobs_per_caller=2, job_ids_per_caller=10) as rig:
        await hold(rig)
        first = [(await ask_batch(rig, rig.key, range(1, count))).status_code for count in (4, 5)]
        many = await ask_batch(rig, rig.key, [7])
        await rig.client.delete(rig.url + "/gateway/jobs/none", headers=bearing(rig.key))
        other = await caller_with(rig, "other", "held")
        large = await ask_batch(rig, other, range(1, 12))
        fits = await ask_batch(rig, other, range(1, 11))
        records = [one for one in await rig.records() if one["name"] == "job:accepted"]

    assert first == [202, 202]
    assert (many.status_code, code_of(many), code_of(large), fits.status_code) == (429, "job-quota-exceeded", "job-quota-exceeded", 202)
    assert {name: many.json()[name] for name in ("open_jobs", "waiting_ids", "most_jobs", "most_ids")} == {
        "open_jobs": 2,
        "waiting_ids": 7,
        "most_jobs": 2,
        "most_ids": 10,
    }
    assert "wait until some are finished, or cancel some" in json.loads(large.text)["detail"]
    assert len(records) == 3


async def test_batches_at_one_moment_dont_share_one_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of five that come together where two find room, two are taken in."""
    async with rigged(tmp_path_factory.mktemp("race"), (HELD,), jobs_per_caller=2) as rig:
        await hold(rig)
        answers = await asyncio.gather(*(ask_batch(rig, rig.key, [number]) for number in range(1, 6)))

    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429]
