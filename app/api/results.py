"""A job's result: a line for each ID that it asked for, as JSON Lines or CSV, sent as it is read from the database."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from io import StringIO
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import StreamingResponse

from app.api.queries import read_query
from app.api.services import Jobs
from app.domain import Caller
from app.errors import RequestMalformed
from app.jobs import IdResult, Job, others_linked, results_of

__all__ = ["RESULT_ANSWER", "RESULT_QUERY", "ResultForm", "code_of", "result_response"]

COLUMNS = ("id", "outcome", "linked", "uncertain", "code", "detail", "linked_order")


class ResultForm(StrEnum):
    """What a result looks like."""

    JSON_LINES = "jsonl"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        """As the answer names it."""
        return "application/jsonl" if self is ResultForm.JSON_LINES else "text/csv; charset=utf-8; header=present"


RESULT_QUERY: list[dict[str, Any]] = [
    {
        "name": "format",
        "in": "query",
        "required": False,
        "description": "What the result looks like; without it CSV where `Accept` names `text/csv`, else JSON Lines.",
        "schema": {"enum": [form.value for form in ResultForm]},
    },
    {
        "name": "partial",
        "in": "query",
        "required": False,
        "description": "`true`: what is known by now of a job that isn't finished. An ID that is asked for anew meanwhile can come twice; "
        "its later line counts.",
        "schema": {"enum": ["true", "false"]},
    },
]
RESULT_ANSWER: dict[str, Any] = {
    "description": "A line for each ID: `id`, `outcome` (`answered`, `failed`, `cancelled`, `expired`, `waiting`), `linked` (absent where "
    "Flxpoint's answer can't tell, as of IDs that aren't orders'), `uncertain`, and of failures `code` and `detail`. Then, where there are "
    "any, lines with `linked_order` alone: orders that Flxpoint named as linked and that are none of the IDs.",
    "content": {"application/jsonl": {"schema": {"type": "string"}}, "text/csv": {"schema": {"type": "string"}}},
}


@dataclass(frozen=True, slots=True)
class _Lines:
    """Results as text."""

    form: ResultForm

    def head(self) -> bytes:
        return _csv_lines([COLUMNS]) if self.form is ResultForm.CSV else b""

    def results(self, results: Iterable[IdResult]) -> bytes:
        return self._lines(map(_members, results))

    def orders(self, orders: Iterable[int]) -> bytes:
        return self._lines({"linked_order": order} for order in orders)

    def _lines(self, lines: Iterable[dict[str, Any]]) -> bytes:
        if self.form is ResultForm.CSV:
            return _csv_lines([_cell(line.get(column)) for column in COLUMNS] for line in lines)
        return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


async def result_response(request: Request, jobs: Jobs, caller: Caller, job_id: str) -> StreamingResponse:
    """The result of one of the caller's jobs.

    Raises:
        NotFound, RequestMalformed
        Conflict: the job isn't finished, and nothing was said of `partial`.
    """
    given = read_query(request, [one["name"] for one in RESULT_QUERY])
    form, partial = _form(request, given.get("format")), given.get("partial", "false")
    if partial not in {"true", "false"}:
        detail = "partial: true or false"
        raise RequestMalformed(detail)
    job = await (jobs.job(caller, job_id) if partial == "true" else jobs.finished(caller, job_id))
    name = f'attachment; filename="{job.id}.{form.value}"'
    return StreamingResponse(_content(jobs, job, _Lines(form)), headers={"Content-Disposition": name, "Content-Type": form.media_type})


async def _content(jobs: Jobs, job: Job, lines: _Lines) -> AsyncIterator[bytes]:
    told_apart, ids, linked, after = jobs.told_apart(job), 0, 0, 0
    yield lines.head()
    while parts := await jobs.parts(job, after=after):
        results = [result for part in parts for result in results_of(part, told_apart=told_apart)]
        ids, linked, after = ids + len(results), linked + sum(bool(one.linked) for one in results), parts[-1].seq
        yield lines.results(results)
    if job.finished and ids != job.counts.total:
        # The connection ends before the answer does, so that nobody takes this for all there is.
        message = "the job was removed while its result was read"
        raise RuntimeError(message)
    if linked < job.counts.linked:
        async for orders in _others(jobs, job, told_apart=told_apart):
            yield lines.orders(orders)


async def _others(jobs: Jobs, job: Job, *, told_apart: bool) -> AsyncIterator[list[int]]:
    after = 0
    while parts := await jobs.parts(job, after=after):
        after = parts[-1].seq
        yield [order for part in parts for order in others_linked(part, told_apart=told_apart)]


def code_of(result: IdResult) -> str | None:
    """The code of the problem that an ID has, if it has one."""
    return str(result.problem["type"]).rpartition("/")[2] if result.problem else None


def _form(request: Request, given: str | None) -> ResultForm:
    if given is None:
        return ResultForm.CSV if "text/csv" in request.headers.get("accept", "").lower() else ResultForm.JSON_LINES
    if given not in {form.value for form in ResultForm}:
        detail = f"format: {' or '.join(ResultForm)}"
        raise RequestMalformed(detail)
    return ResultForm(given)


def _members(result: IdResult) -> dict[str, Any]:
    members = {
        "id": result.id,
        "outcome": result.outcome.value,
        "linked": result.linked,
        "uncertain": result.uncertain,
        "code": code_of(result),
        "detail": result.problem.get("detail") if result.problem else None,
    }
    return {name: value for name, value in members.items() if value is not None}


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _csv_lines(rows: Iterable[Iterable[str]]) -> bytes:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
