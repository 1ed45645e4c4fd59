"""The records of jobs. Each of a job's calls has records of its own, under the same request's ID; its IDs stand there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import Field

from app.audit.records.calls import Accepted, Requested
from app.audit.records.changes import Change, changed_by
from app.audit.records.members import CallerName, Count, Ends, OperationId, ParameterName, TokenName
from app.audit.records.names import Name
from app.audit.records.record import Record
from app.domain import Actor, Caller, Operation, Parameter, Priority, TokenRef

__all__ = ["JobAccepted", "JobCancelled", "job_accepted", "job_cancelled"]

JobId = Annotated[str, Field(description="The job's ID.")]


class JobAsked(Protocol):
    """What a job is asked to be."""

    @property
    def id(self) -> str: ...

    @property
    def caller(self) -> Caller: ...

    @property
    def operation(self) -> Operation: ...

    @property
    def parameter(self) -> Parameter: ...

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def token(self) -> TokenRef: ...

    @property
    def priority(self) -> Priority: ...

    @property
    def request_id(self) -> str: ...

    @property
    def expires_at(self) -> str: ...

    @property
    def trace_id(self) -> str | None: ...

    @property
    def address(self) -> str | None: ...

    @property
    def origin(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAccepted(Requested):
    """A job is about to be taken in; its calls will be sent one after the other."""

    name: Literal[Name.JOB_ACCEPTED] = Name.JOB_ACCEPTED
    decision: Accepted = "accepted"
    job_id: JobId
    operation: OperationId
    parameter: ParameterName
    token: TokenName
    priority: Annotated[str, Field(description="`interactive` or `batch`.")]
    count: Annotated[Count, Field(description="How many IDs it asks for, each once.")]
    expires_at: Ends


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled(Change):
    """Nothing more of a job is about to be sent; `subject` is its ID, `caller` who asked for it."""

    name: Literal[Name.JOB_CANCELLED] = Name.JOB_CANCELLED
    caller: CallerName


def job_accepted(asked: JobAsked) -> Record:
    """A job is about to be taken in."""
    return JobAccepted(
        request_id=asked.request_id,
        trace_id=asked.trace_id,
        caller=asked.caller.name,
        credential_id=asked.caller.credential_id,
        address=asked.address,
        origin=asked.origin,
        job_id=asked.id,
        operation=asked.operation.id,
        parameter=asked.parameter.name,
        token=asked.token.name,
        priority=asked.priority.value,
        count=len(asked.ids),
        expires_at=asked.expires_at,
    ).record()


def job_cancelled(job_id: str, *, caller: str, by: Actor) -> Record:
    """Nothing more of a job is about to be sent."""
    return JobCancelled(**changed_by(by), subject=job_id, caller=caller).record()
