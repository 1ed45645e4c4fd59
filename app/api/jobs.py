"""The routes of jobs: batches are asked for, jobs are looked at and cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.actors import actor_of
from app.api.bodies import read_model
from app.api.dependencies import KnownCaller, TheServices
from app.api.description import CREDENTIALS, problem_answer
from app.api.idempotency import REPLAYED, key_of_batch
from app.domain import Priority
from app.joboffice import BatchAsked
from app.jobs import Job, JobKind, JobState

__all__ = ["add_job_routes", "job_response"]

JOBS = "/gateway/jobs"
BATCHES = "/gateway/batches"
LARGEST_ID = 2**63 - 1
MOST_IDS = 100_000
MOST_BATCH_BYTES = 4 * 1024 * 1024
MOST_IN_PAGE = 200
LOOKING = [
    "credentials-missing",
    "credentials-invalid",
    "upstream-token-presented",
    "origin-not-allowed",
    "not-found",
    "caller-rate-exceeded",
]
ASKING = [
    *LOOKING,
    "request-malformed",
    "parameter-unknown",
    "parameter-missing",
    "token-ambiguous",
    "operation-not-granted",
    "token-not-granted",
    "token-kind-not-accepted",
    "ticket-ids-not-allowed",
    "request-timeout",
    "body-too-large",
    "media-type-not-supported",
    "conflict",
    "idempotency-mismatch",
]

Name = Annotated[str, Field(min_length=1, max_length=64)]
Id = Annotated[int, Field(ge=1, le=LARGEST_ID), WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1})]


class AskedBatch(BaseModel):
    """Many IDs for one operation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    operation: Name = Field(description="The operation, such as `link-orders`.")
    parameter: Name = Field(description="The one parameter that the IDs are for, such as `orderIds`.")
    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS)] = Field(description="The IDs; those that come twice are sent once.")
    token: Name | None = Field(None, description="The token's name; default: the caller's default or only one.")
    priority: Annotated[Priority, Field(strict=False)] = Field(Priority.BATCH, description="Against the caller's other calls.")

    def asked(self) -> BatchAsked:
        """As the office takes it."""
        return BatchAsked(operation=self.operation, parameter=self.parameter, ids=self.ids, token=self.token, priority=self.priority)


class ShownCounts(BaseModel):
    """A job's IDs, by how they ended."""

    total: int = Field(description="All of them.")
    answered: int = Field(description="Those whose call was answered.")
    failed: int = Field(description="Those whose call failed.")
    cancelled: int = Field(description="Those that weren't sent, since the job was cancelled.")
    linked: int = Field(description="The IDs that Flxpoint named as linked.")


class ShownJob(BaseModel):
    """A job as it is now."""

    id: str = Field(description="Its ID.")
    kind: JobKind = Field(description="One call whose answer comes later, or a batch of calls.")
    state: JobState = Field(description="How far it is.")
    operation: str = Field(description="The operation.")
    parameter: str = Field(description="The parameter that its IDs are for.")
    token: str = Field(description="The token's name.")
    priority: Priority = Field(description="Against the caller's other calls.")
    counts: ShownCounts = Field(description="Its IDs, by how they ended.")
    uncertain: bool = Field(description="More may have been linked than is known.")
    created_at: datetime = Field(description="When it was asked for.")
    started_at: datetime | None = Field(description="When its first call began.")
    finished_at: datetime | None = Field(description="When its end was known.")
    expires_at: datetime = Field(description="What isn't sent by then is given up.")


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[ShownJob] = Field(description="The jobs.")
    next: str | None = Field(description="The cursor of the next page; null: there is none.")


async def ask_batch(request: Request, response: Response, services: TheServices, caller: KnownCaller) -> ShownJob:
    """Have many IDs sent, as many calls, one after the other, while nobody waits: the job is on disk when this is answered."""
    asked = (await read_model(request, AskedBatch, MOST_BATCH_BYTES)).asked()
    key = key_of_batch(request.headers.getlist("idempotency-key"), caller, asked)
    made = await services.jobs.take_batch(caller, asked, actor_of(request, caller), origin=request.headers.get("origin"), key=key)
    response.headers.update({"Location": f"{JOBS}/{made.job.id}", **(REPLAYED if made.repeated else {})})
    return _shown(made.job)


async def list_jobs(
    services: TheServices,
    caller: KnownCaller,
    limit: Annotated[int, Query(ge=1, le=MOST_IN_PAGE)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> JobPage:
    """The caller's own jobs."""
    jobs = await services.jobs.jobs(caller, limit=limit, before=cursor)
    return JobPage(jobs=[_shown(job) for job in jobs], next=jobs[-1].id if len(jobs) == limit else None)


async def show_job(services: TheServices, caller: KnownCaller, job_id: str) -> ShownJob:
    """A job of the caller's own."""
    return _shown(await services.jobs.job(caller, job_id))


async def cancel_job(services: TheServices, caller: KnownCaller, job_id: str) -> ShownJob:
    """Have nothing more of a job sent. What is under way comes to its end."""
    return _shown(await services.jobs.cancel(caller, job_id))


def add_job_routes(app: FastAPI) -> None:
    """Add them."""
    body = {"required": True, "content": {"application/json": {"schema": AskedBatch.model_json_schema()}}}
    asking: dict[int | str, dict[str, Any]] = {
        "4XX": problem_answer(ASKING),
        503: problem_answer(["token-unavailable", "audit-unavailable"]),
    }
    looking: dict[int | str, dict[str, Any]] = {"4XX": problem_answer(LOOKING)}
    described: dict[str, Any] = {"tags": ["Jobs"], "openapi_extra": {"security": CREDENTIALS}}
    app.add_api_route(
        BATCHES,
        ask_batch,
        methods=["POST"],
        status_code=202,
        operation_id="ask-batch",
        tags=["Jobs"],
        responses=asking,
        openapi_extra={"security": CREDENTIALS, "requestBody": body},
    )
    app.add_api_route(JOBS, list_jobs, operation_id="list-jobs", responses=looking, **described)
    app.add_api_route(f"{JOBS}/{{job_id}}", show_job, operation_id="show-job", responses=looking, **described)
    app.add_api_route(f"{JOBS}/{{job_id}}", cancel_job, methods=["DELETE"], operation_id="cancel-job", responses=looking, **described)


def job_response(job: Job, headers: Mapping[str, str]) -> Response:
    """The answer to what became a job, as the job is now."""
    return Response(_shown(job).model_dump_json(), 202, {"Location": f"{JOBS}/{job.id}", **headers}, "application/json")


def _shown(job: Job) -> ShownJob:
    members = {name: getattr(job, name) for name in ShownJob.model_fields if name != "counts"}
    counts = ShownCounts(**{name: getattr(job.counts, name) for name in ShownCounts.model_fields})
    return ShownJob(**members, counts=counts)
