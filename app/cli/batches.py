"""Batches at a gateway, as one of its callers sends and follows them: what passes by itself is waited for."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO

import httpx2

from app.cli.records import legible
from app.cli.remote import Way, answer_of, caller_client, code_of, no_gateway, way_of_caller
from app.domain import new_id
from app.errors import PROBLEMS
from app.jobs import FINISHED

__all__ = ["Batches", "Job", "ResultForm", "at_gateway"]

Job = Mapping[str, Any]
"""A job as the gateway shows it."""

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, *(15.0,) * 39)
"""Seconds between tries while no answer comes, 10 min in all."""
FIRST_PAUSES = PAUSES[:3]
NOBODY_THERE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)
LOOKS = (0.1, 0.2, 0.4, 0.7)
LOOK_SECONDS = 1.0
PASSING = frozenset({httpx2.codes.TOO_MANY_REQUESTS, httpx2.codes.SERVICE_UNAVAILABLE})
OF_A_PROXY = frozenset({httpx2.codes.BAD_GATEWAY, httpx2.codes.SERVICE_UNAVAILABLE, httpx2.codes.GATEWAY_TIMEOUT})


class ResultForm(StrEnum):
    """How a result is written."""

    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class _Wait:
    """Why there is no answer yet, and after how many seconds there may be, where that is known."""

    reason: str
    seconds: float | None = None


class Batches:
    """The gateway's batches and jobs.

    A request that gets no answer is made again, with growing pauses. Before the gateway has ever answered, a wrong address is likelier
    than an outage: where no connection comes about it is given up at once, and after a few tries where one ends without an answer. A 429
    or 503 is waited for as long as it says, but for too many open jobs.

    Args:
        client: where requests go, with the caller's key.
        way: what the gateway is called where it can't be asked.
        tell: hears why something is waited for, a sentence each.
        rest: waits so many seconds.
    """

    def __init__(self, client: httpx2.Client, way: Way, tell: Callable[[str], None], rest: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._way = way
        self._tell = tell
        self._rest = rest
        self._reached = False

    def send(self, batch: Mapping[str, Any]) -> Job:
        """Have the gateway take a batch; its job. However often it must be sent, it is one job: it carries an Idempotency-Key.

        Raises:
            StartRefused: no gateway answers.
            GatewayError: it refused.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{new_id()}"'}
        job = self._asked("POST", "/gateway/batches", content=json.dumps(batch).encode(), headers=headers)
        return self._job(job)

    def job(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            StartRefused, GatewayError
        """
        return self._job(self._asked("GET", f"/gateway/jobs/{job_id}"))

    def followed(self, job_id: str) -> Iterator[Job]:
        """A job as it gets on, until it has finished.

        Raises:
            StartRefused, GatewayError
        """
        for pause in itertools.chain(LOOKS, itertools.repeat(LOOK_SECONDS)):
            job = self.job(job_id)
            yield job
            if job["state"] in FINISHED:
                return
            self._rest(pause)

    def write_result(self, job_id: str, form: ResultForm, file: BinaryIO) -> None:
        """Add a finished job's result to a file. Of a table that has its heading already only the rows are added.

        Raises:
            StartRefused, GatewayError
            OSError: the file can't be written.
        """
        start = file.tell()

        def copied() -> httpx2.Response:
            file.seek(start)
            file.truncate()
            with self._client.stream("GET", f"/gateway/jobs/{job_id}/result", params={"format": form.value}) as response:
                if response.is_success:
                    _copy(response, file, headed=start > 0 and form is ResultForm.CSV)
                else:
                    response.read()
                return response

        response = self._persistently(copied)
        if not response.is_success:
            answer_of(self._way, response)

    def _asked(self, method: str, path: str, **given: Any) -> Any:  # noqa: ANN401 - JSON
        return answer_of(self._way, self._persistently(lambda: self._client.request(method, path, **given)))

    def _persistently(self, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Ask until there is an answer that waiting doesn't change."""
        tries = 0
        while isinstance(answer := self._tried(ask), _Wait):
            pause = answer.seconds or self._pause(tries)
            if pause is None:
                raise no_gateway(self._way, answer.reason)
            tries += answer.seconds is None
            self._tell(f"{answer.reason}; trying again in {pause:g} s")
            self._rest(pause)
        return answer

    def _pause(self, tries: int) -> float | None:
        pauses = PAUSES if self._reached else FIRST_PAUSES
        return pauses[tries] if tries < len(pauses) else None

    def _tried(self, ask: Callable[[], httpx2.Response]) -> httpx2.Response | _Wait:
        try:
            response = ask()
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            if isinstance(error, NOBODY_THERE) and not self._reached:
                raise no_gateway(self._way, reason) from None
            return _Wait(reason)
        self._reached = True
        return _Wait(_reason(response), _retry_after(response)) if _passes(response) else response

    def _job(self, answer: Any) -> Job:  # noqa: ANN401 - JSON
        if not isinstance(answer, dict) or not {"id", "state", "counts"} <= answer.keys():
            raise no_gateway(self._way, "it answered with no job")
        return answer


@contextmanager
def at_gateway(tell: Callable[[str], None]) -> Iterator[Batches]:
    """The gateway that `GATEWAY_URL` and `GATEWAY_KEY` name, as long as the context lasts.

    Raises:
        StartRefused: they name none.
    """
    way = way_of_caller()
    with caller_client(way) as client:
        yield Batches(client, way, tell)


def _copy(response: httpx2.Response, file: BinaryIO, *, headed: bool) -> None:
    for piece in response.iter_bytes():
        if headed:
            _, end, rest = piece.partition(b"\n")
            headed = not end
            file.write(rest)
        else:
            file.write(piece)


def _passes(response: httpx2.Response) -> bool:
    """Whether waiting may change the answer: it says so, or it is a proxy's while the gateway is away, or the batch's first try goes on."""
    code = _code(response)
    if response.status_code in OF_A_PROXY and code not in PROBLEMS:
        return True
    if response.status_code == httpx2.codes.CONFLICT:
        return response.request.method == "POST"
    if code == "job-quota-exceeded":
        # Others' jobs, or hours, may stand before it: whoever asks decides whether to wait or to cancel some.
        return False
    return response.status_code in PASSING and (code != "token-unavailable" or "Retry-After" in response.headers)


def _reason(response: httpx2.Response) -> str:
    code = _code(response)
    return f"{code}: {legible(response.json().get('detail'))}" if code in PROBLEMS else f"it answered {response.status_code}"


def _code(response: httpx2.Response) -> str:
    if response.is_success:
        return ""
    try:
        return code_of(response.json())
    except ValueError:
        return ""


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds; a date (RFC 9110, section 10.2.3) comes from no gateway, and counts as nothing said."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
