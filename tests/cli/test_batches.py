"""Batches at a gateway: what passes is waited for, and what doesn't ends the work."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from app.cli.batches import PAUSES, Batches, ResultForm
from app.cli.remote import Way, caller_client
from app.errors import Conflict, CredentialsInvalid, GatewayError, JobQuotaExceeded, NotFound, StartRefused, TokenUnavailable

from .processes import free_port
from .scripted import Answer, Scripted, job, problem, scripted

DROPPED = Answer(dropped=True)
BATCH = {"operation": "link-orders", "parameter": "orderIds", "ids": [1001]}


@dataclass
class Asking:
    """The batches of a scripted gateway; what was waited for, in seconds, and what was said of it."""

    batches: Batches
    gateway: Scripted
    rested: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@contextmanager
def asking(*answers: Answer) -> Iterator[Asking]:
    """Ask a gateway that gives these answers, without really waiting."""
    with scripted(*answers) as gateway:
        way = Way(gateway.url, gateway.url, "/gateway", headers={"Authorization": "Bearer fgk_key"})
        rested: list[float] = []
        told: list[str] = []
        with caller_client(way) as client:
            yield Asking(Batches(client, way, told.append, rested.append), gateway, rested, told)


def test_a_batch_carries_the_key_and_an_idempotency_key() -> None:
    """A batch goes out as JSON with the caller's key, and with a key of its own in the form of a structured field's string."""
    with asking(job("queued")) as asked:
        first, second = asked.batches.send(BATCH), asked.batches.send(BATCH)

    headers = [one.headers for one in asked.gateway.asked]
    keys = [one["Idempotency-Key"] for one in headers]
    assert first == second == json.loads(job("queued").body)
    assert [(one.method, one.target, json.loads(one.body)) for one in asked.gateway.asked] == [("POST", "/gateway/batches", BATCH)] * 2
    assert {one["Authorization"] for one in headers} == {"Bearer fgk_key"}
    assert len(set(keys)) == 2
    assert all(key[0] == key[-1] == '"' and len(key) == 38 for key in keys)


def test_a_batch_that_is_sent_again_has_the_same_key() -> None:
    """A connection that ends without an answer leaves open whether there is a job, so the retry says that it is one."""
    with asking(job(), DROPPED, problem(409, "conflict"), job("queued")) as asked:
        asked.batches.job("a-job")
        asked.batches.send(BATCH)

    assert len({one.headers["Idempotency-Key"] for one in asked.gateway.asked[1:]}) == 1
    assert asked.rested == [0.5, 1.0]
    assert asked.told[1] == "conflict: this is conflict; trying again in 1 s"


def test_a_job_is_followed_to_its_end() -> None:
    """It is looked at more and more seldom, a second apart at last, until it has finished."""
    with asking(job("queued"), *[job()] * 6, job("succeeded", answered=100)) as asked:
        states = [one["state"] for one in asked.batches.followed("a-job")]

    assert states == ["queued", *["running"] * 6, "succeeded"]
    assert asked.rested == [0.1, 0.2, 0.4, 0.7, 1.0, 1.0, 1.0]
    assert {one.target for one in asked.gateway.asked} == {"/gateway/jobs/a-job"}


@pytest.mark.parametrize(
    ("passing", "rested"),
    [
        (problem(429, "caller-rate-exceeded", Retry_After="7"), 7),
        (problem(503, "audit-unavailable", Retry_After="2"), 2),
        (problem(503, "token-unavailable", Retry_After="3"), 3),
        (problem(429, "caller-rate-exceeded"), 0.5),
        (problem(503, "shutting-down", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), 0.5),
        (Answer(502, b"bad gateway"), 0.5),
        (Answer(503, b"<html>"), 0.5),
        (Answer(504, b"[]"), 0.5),
        (DROPPED, 0.5),
    ],
)
def test_what_passes_is_waited_for(passing: Answer, rested: float) -> None:
    """A refusal for now is waited for as long as it says; where nothing is said, and where no gateway answered, for a short while."""
    with asking(job(), passing, job("succeeded")) as asked:
        states = [one["state"] for one in asked.batches.followed("a-job")]

    assert states == ["running", "succeeded"]
    assert asked.rested == [0.1, rested]
    assert len(asked.told) == 1
    assert asked.told[0].endswith(f"; trying again in {rested:g} s")


def test_what_names_its_time_is_waited_for_without_end() -> None:
    """A limit may be reached for hours: as long as the gateway says when to come back, nobody gives up."""
    full = problem(429, "caller-rate-exceeded", Retry_After="60")
    with asking(*[full] * 100, job("queued")) as asked:
        asked.batches.send(BATCH)

    assert asked.rested == [60] * 100


def test_a_gateway_that_stays_away_is_given_up() -> None:
    """After ten minutes without an answer it is told in one line that no gateway can be asked."""
    with asking(job(), DROPPED) as asked, pytest.raises(StartRefused) as refused:
        list(asked.batches.followed("a-job"))

    assert asked.rested == [0.1, *PAUSES]
    assert 595 <= sum(PAUSES) <= 605
    assert str(refused.value).startswith(f"no gateway can be asked at {asked.gateway.url}: ")


def test_a_first_batch_that_gets_no_answer_is_sent_again() -> None:
    """A connection that ended may have brought the batch, so it goes out again under the same key, a few times."""
    with asking(DROPPED, job("queued")) as asked:
        asked.batches.send(BATCH)
    with asking(DROPPED) as never, pytest.raises(StartRefused):
        never.batches.send(BATCH)

    assert len({one.headers["Idempotency-Key"] for one in asked.gateway.asked}) == 1
    assert (asked.rested, never.rested) == ([0.5], [0.5, 1.0, 2.0])


def test_a_gateway_that_never_answered_is_given_up_at_once() -> None:
    """An address where nobody listens is likelier wrong than away."""
    url = f"http://127.0.0.1:{free_port()}"
    way, rested = Way(url, url, "/gateway"), list[float]()

    with caller_client(way) as client, pytest.raises(StartRefused) as refused:
        Batches(client, way, print, rested.append).send(BATCH)

    assert str(refused.value).startswith(f"no gateway can be asked at {url}: ")
    assert rested == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(401, "credentials-invalid"), CredentialsInvalid),
        (problem(404, "not-found"), NotFound),
        (problem(503, "token-unavailable"), TokenUnavailable),
        (problem(429, "job-quota-exceeded", Retry_After="15"), JobQuotaExceeded),
    ],
)
def test_a_refusal_ends_the_work(answer: Answer, error: type[GatewayError]) -> None:
    """What waiting doesn't change is a problem at once."""
    with asking(answer) as asked:
        with pytest.raises(error):
            asked.batches.send(BATCH)
        with pytest.raises(error):
            asked.batches.job("a-job")

    assert asked.rested == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, b"<html>"), "it answered 200 without JSON"),
        (Answer(200, b"[]"), "it answered with no job"),
        (Answer(200, b'{"id": "a-job"}'), "it answered with no job"),
        (Answer(404, b"{}"), "it answered 404"),
        (Answer(302, b"{}"), "it answered 302"),
    ],
)
def test_somebody_else_at_the_address(answer: Answer, reason: str) -> None:
    """Whoever answers and is no gateway is told as such."""
    with asking(answer) as asked, pytest.raises(StartRefused) as refused:
        asked.batches.send(BATCH)

    assert str(refused.value) == f"no gateway can be asked at {asked.gateway.url}: {reason}"


def test_a_result_that_breaks_off_is_read_anew() -> None:
    """What came of it is taken back, so that the file holds each line once."""
    whole = Answer(body=b'{"id": 1}\n{"id": 2}\n')
    file = io.BytesIO(b"before\n")
    file.seek(0, io.SEEK_END)
    with asking(job(), Answer(body=whole.body, cut=13), whole) as asked:
        asked.batches.job("a-job")
        asked.batches.write_result("a-job", ResultForm.JSONL, file)

    assert file.getvalue() == b"before\n" + whole.body
    assert asked.rested == [0.5]
    assert asked.gateway.asked[-1].target == "/gateway/jobs/a-job/result?format=jsonl"


def test_tables_have_one_heading() -> None:
    """Of the tables of several jobs only the first has its heading."""
    file = io.BytesIO()
    with asking(Answer(body=b"id,outcome\r\n1,answered\r\n"), Answer(body=b"id,outcome\r\n2,failed\r\n")) as asked:
        for _ in range(2):
            asked.batches.write_result("a-job", ResultForm.CSV, file)

    assert file.getvalue() == b"id,outcome\r\n1,answered\r\n2,failed\r\n"


def test_a_result_that_isnt_there() -> None:
    """A result that is refused leaves the file as it was."""
    file = io.BytesIO()
    with asking(problem(409, "conflict")) as asked, pytest.raises(Conflict):
        asked.batches.write_result("a-job", ResultForm.JSONL, file)

    assert file.getvalue() == b""
