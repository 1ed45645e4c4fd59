"""Jobs in a database of their own, and a gateway that plays what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Caller, Grant, Operation, Parameter, Priority, TokenKind, TokenRef
from app.jobs import Counts, Job, JobKind, JobState, JobStore, NewJob, Part, PartState, Run
from app.storage import reading, writing

SHOP = TokenRef("token-1", "shop", TokenKind.ACCOUNT)
DESK = TokenRef("token-2", "desk", TokenKind.ACCOUNT)
ORDERS = Parameter("orderIds", 3)
LINK = Operation("link-orders", "PATCH", "/orders/link", "", "", frozenset(TokenKind), (ORDERS,), idempotent=True, max_answer_bytes=100)
SERVICE = Caller("caller-1", "order-service", "key-1", grants=(Grant(SHOP.id, SHOP.name), Grant(DESK.id, DESK.name)), basis="key:1")
DAY = timedelta(days=1)


def at(after: timedelta) -> str:
    """A time from now on, as rows have it."""
    return (datetime.now(UTC) + after).isoformat(timespec="microseconds")


def new_job(ids: Sequence[int], *, lasts: timedelta = DAY, token: TokenRef = SHOP, operation: Operation = LINK) -> NewJob:
    """A job of these IDs, three in a part."""
    return NewJob(
        caller=SERVICE,
        operation=operation,
        parameter=ORDERS,
        ids=ids,
        token=token,
        priority=Priority.BATCH,
        request_id="request-1",
        expires_at=at(lasts),
    )


async def added(engine: AsyncEngine, new: NewJob) -> Job:
    """Put a job down."""
    async with writing(engine) as connection:
        return await JobStore().add(connection, new)


async def job_of(engine: AsyncEngine, job: Job) -> Job:
    """The job as it is now."""
    async with reading(engine) as connection:
        return await JobStore().job(connection, job.id)


async def parts_of(engine: AsyncEngine, job: Job) -> list[Part]:
    """All its parts as they are now."""
    async with reading(engine) as connection:
        return await JobStore().parts(connection, job.id, list(PartState), after=0, limit=10_000)


def run_of() -> Run:
    """A job in the hands of a process."""
    job = Job(
        id="job",
        kind=JobKind.BATCH,
        caller_id=SERVICE.id,
        caller=SERVICE.name,
        basis=SERVICE.basis,
        credential_id=SERVICE.credential_id,
        request_id="request-1",
        trace_id=None,
        address=None,
        origin=None,
        operation=LINK.id,
        parameter=ORDERS.name,
        token_id=SHOP.id,
        token=SHOP.name,
        priority=Priority.BATCH,
        state=JobState.QUEUED,
        counts=Counts(total=1),
        uncertain=False,
        cancelling=False,
        created_at=at(timedelta()),
        started_at=None,
        finished_at=None,
        expires_at=at(DAY),
    )
    return Run(job)
