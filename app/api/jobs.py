"""The routes of jobs: batches are asked for, jobs are looked at and cancelled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from app.api.actors import actor_of
from app.api.batches import BATCH_BODY, BATCH_QUERY, read_batch
from app.api.dependencies import KnownCaller, TheServices
from app.api.description import CREDENTIALS, KEY_HEADER, problem_answer
from app.api.idempotency import REPLAYED, key_of_batch
from app.api.queries import page_limit, read_query
from app.api.results import RESULT_ANSWER, RESULT_QUERY, result_response
from app.domain import Priority
from app.errors import RequestMalformed
from app.joboffice import JobSeen
from app.jobs import IdResult, Job, JobKind, JobState

__all__ = [
    "JOBS",
    "LOOKING",
    "FollowedJob",
    "ListedJob",
    "ShownJob",
    "add_job_routes",
    "followed_job",
    "job_response",
    "listed_job",
    "page_asked",
    "shown_job",
]

JOBS = "/gateway/jobs"
BATCHES = "/gateway/batches"
MOST_IN_PAGE = 200
USUAL_LIMIT = 50
CURSOR = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
PAGE_QUERY: list[dict[str, Any]] = [
    {
        "name": "state",
        "in": "query",
        "required": False,
        "description": "Only those in this state.",
        "schema": {"enum": [state.value for state in JobState]},
    },
    {
        "name": "limit",
        "in": "query",
        "required": False,
        "description": "How many, at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_IN_PAGE, "default": USUAL_LIMIT},
    },
    {
        "name": "cursor",
        "in": "query",
        "required": False,
        "description": "`next` of the page before, with the same state.",
        "schema": {"type": "string"},
    },
]
CALLING = ["credentials-missing", "credentials-invalid", "upstream-token-presented", "origin-not-allowed", "caller-rate-exceeded"]
LOOKING = [*CALLING, "not-found"]
LISTING = [*CALLING, "request-malformed"]
READING = [*LOOKING, "request-malformed", "conflict"]
ASKING = [
    *LOOKING,
    "request-malformed",
    "parameter-unknown",
    "parameter-missing",
    "parameter-invalid",
    "token-ambiguous",
    "operation-not-granted",
    "token-not-granted",
    "token-kind-not-accepted",
    "ticket-ids-not-allowed",
    "request-timeout",
    "body-too-large",
    "media-type-not-supported",
    "job-quota-exceeded",
    "conflict",
    "idempotency-mismatch",
]


class ShownCounts(BaseModel):
    """A job's IDs, by how they ended."""

    total: int = Field(description="All of them.")
    answered: int = Field(description="Those whose call was answered.")
    failed: int = Field(description="Those whose call failed, or whose time ran out.")
    cancelled: int = Field(description="Those that weren't sent, since the job was cancelled.")
    linked: int = Field(description="The IDs that Flxpoint named as linked.")


class ShownFailure(BaseModel):
    """An ID that failed."""

    id: int = Field(description="The ID.")
    problem: dict[str, Any] = Field(description="Its problem (RFC 9457).")
    uncertain: bool = Field(description="Flxpoint may have done the work all the same.")


class ListedJob(BaseModel):
    """A job as it stands in a list."""

    id: str = Field(description="Its ID.")
    kind: JobKind = Field(description="One call whose answer comes later, or a batch of calls.")
    state: JobState = Field(description="How far it is.")
    operation: str = Field(description="The operation.")
    parameter: str = Field(description="The parameter that its IDs are for.")
    token: str = Field(description="The token's name.")
    priority: Priority = Field(description="Against the caller's other calls.")
    counts: ShownCounts = Field(description="Its IDs, by how they ended.")
    cancelling: bool = Field(description="Nothing more of it is sent, since it was cancelled.")
    uncertain: bool = Field(description="More may have been linked than is known.")
    created_at: datetime = Field(description="When it was asked for.")
    started_at: datetime | None = Field(description="When its first call began.")
    finished_at: datetime | None = Field(description="When its end was known.")
    expires_at: datetime = Field(description="What isn't sent by then is given up.")


class FollowedJob(ListedJob):
    """A job as those see it who follow it."""

    expected_seconds: int | None = Field(
        description="In how many seconds it will end if things stay as they are: its sends that are left, and those of the token's other "
        "open jobs that take turns with them, over the token's rate. Null: it has ended, or nobody can tell."
    )
    expected_end: datetime | None = Field(description="The same as a time, in UTC.")


class ShownJob(FollowedJob):
    """A job as it is now."""

    failures: list[ShownFailure] = Field(description="The first 100 of the IDs that failed.")
    more_failures: int = Field(description="How many more there are; the job's result names all.")


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[ListedJob] = Field(description="The jobs.")
    next: str | None = Field(description="The cursor of the next page; null: there is none.")


async def ask_batch(request: Request, response: Response, services: TheServices, caller: KnownCaller) -> ShownJob:
    """Have many IDs sent, as many calls, one after the other, while nobody waits: the job is on disk when this is answered.

    The IDs come as JSON, or as a CSV or plain text file; then the rest stands in the query. If one is no ID, it is named by its line, and
    nothing is taken in.
    """
    asked = await read_batch(request)
    key = key_of_batch(request.headers.getlist("idempotency-key"), caller, asked)
    seen = await services.jobs.take_batch(caller, asked, actor_of(request, caller), origin=request.headers.get("origin"), key=key)
    response.headers.update({"Location": f"{JOBS}/{seen.job.id}", **(REPLAYED if seen.repeated else {})})
    return shown_job(seen)


async def list_jobs(request: Request, services: TheServices, caller: KnownCaller) -> JobPage:
    """The caller's own jobs, newest first. A ticket's are those that were asked for with it."""
    limit, before, state = page_asked(request)
    jobs = await services.jobs.jobs(caller, limit=limit + 1, before=before, state=state)
    more = len(jobs) > limit
    return JobPage(jobs=list(map(listed_job, jobs[:limit])), next=jobs[limit - 1].id if more else None)


async def show_job(services: TheServices, caller: KnownCaller, job_id: str) -> ShownJob:
    """A job of the caller's own, with its first failures and its expected end."""
    return shown_job(await services.jobs.look(caller, job_id))


async def read_result(request: Request, services: TheServices, caller: KnownCaller, job_id: str) -> Response:
    """What became of each ID of a job, once it is finished: JSON Lines, or CSV."""
    return await result_response(request, services.jobs, caller, job_id)


async def cancel_job(request: Request, services: TheServices, caller: KnownCaller, job_id: str) -> ShownJob:
    """Have nothing more of a job sent. What is under way comes to its end; a job that is finished stays as it is."""
    return shown_job(await services.jobs.cancel(caller, job_id, actor_of(request, caller)))


def add_job_routes(app: FastAPI) -> None:
    """Add them."""
    app.add_api_route(
        BATCHES,
        ask_batch,
        methods=["POST"],
        status_code=202,
        operation_id="ask-batch",
        **_described(ASKING, parameters=[*BATCH_QUERY, KEY_HEADER], unavailable=["token-unavailable"], requestBody=BATCH_BODY),
    )
    app.add_api_route(JOBS, list_jobs, operation_id="list-jobs", **_described(LISTING, parameters=PAGE_QUERY))
    one = f"{JOBS}/{{job_id}}"
    app.add_api_route(one, show_job, operation_id="show-job", **_described(LOOKING))
    app.add_api_route(one, cancel_job, methods=["DELETE"], operation_id="cancel-job", **_described(LOOKING))
    result = _described(READING, parameters=RESULT_QUERY)
    result["responses"][200] = RESULT_ANSWER
    app.add_api_route(f"{one}/result", read_result, operation_id="read-result", response_class=Response, **result)


def job_response(seen: JobSeen, headers: Mapping[str, str]) -> Response:
    """The answer to what became a job, as the job is now."""
    return Response(shown_job(seen).model_dump_json(), 202, {"Location": f"{JOBS}/{seen.job.id}", **headers}, "application/json")


def page_asked(request: Request) -> tuple[int, str | None, JobState | None]:
    """Which page of jobs a query asks for: of how many jobs at most, older than which, and in which state.

    Raises:
        RequestMalformed
    """
    given = read_query(request, [one["name"] for one in PAGE_QUERY])
    limit = page_limit(given.get("limit", str(USUAL_LIMIT)), MOST_IN_PAGE)
    return limit, _cursor(given.get("cursor")), _state(given.get("state"))


def listed_job(job: Job) -> ListedJob:
    """A job as it stands in the API's lists."""
    return ListedJob(**_members(job))


def shown_job(seen: JobSeen) -> ShownJob:
    """A job as the API shows it."""
    return ShownJob(
        **followed_job(seen.job, seen.ends_in).model_dump(),
        failures=list(map(_failure, seen.failures)),
        more_failures=max(0, seen.job.counts.failed - len(seen.failures)),
    )


def followed_job(job: Job, ends_in: float | None) -> FollowedJob:
    """A job as its events show it; `ends_in` in seconds."""
    seconds = None if ends_in is None else max(1, math.ceil(ends_in))
    end = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    return FollowedJob(**_members(job), expected_seconds=seconds, expected_end=end)


def _members(job: Job) -> dict[str, Any]:
    counts = ShownCounts(**{name: getattr(job.counts, name) for name in ShownCounts.model_fields})
    return {name: getattr(job, name) for name in ListedJob.model_fields if name != "counts"} | {"counts": counts}


def _failure(result: IdResult) -> ShownFailure:
    return ShownFailure(id=result.id, problem=dict(result.problem or {}), uncertain=result.uncertain)


def _cursor(text: str | None) -> str | None:
    if text is not None and not CURSOR.fullmatch(text):
        detail = "cursor: the next of the page before"
        raise RequestMalformed(detail)
    return text


def _state(text: str | None) -> JobState | None:
    if text is None:
        return None
    if text not in set(JobState):
        detail = f"state: one of {', '.join(JobState)}"
        raise RequestMalformed(detail)
    return JobState(text)


def _described(codes: list[str], *, unavailable: Sequence[str] = (), **extra: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    responses: dict[int | str, dict[str, Any]] = {"4XX": problem_answer(codes), 503: problem_answer([*unavailable, "audit-unavailable"])}
    return {"tags": ["Jobs"], "responses": responses, "openapi_extra": {"security": CREDENTIALS, **extra}}
