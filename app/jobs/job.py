"""Jobs: calls, or many of them, that outlive their request; and the parts that they are cut into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

from app.domain import Caller, Operation, Parameter, Priority, TokenRef, new_id

__all__ = ["FINISHED", "OPEN", "Counts", "Job", "JobState", "NewJob", "Part", "PartEnd", "PartState", "cut"]


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTLY_FAILED = "partly-failed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


FINISHED = frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING}
"""The states that a job doesn't leave any more."""
OPEN = tuple(state.value for state in JobState if state not in FINISHED)


class PartState(StrEnum):
    """How far a part of a job is: `taken` from the moment that its call has an ID until its end is known."""

    WAITING = "waiting"
    TAKEN = "taken"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What a job is made of. `expires_at` (UTC, ISO 8601) is when what wasn't sent by then is given up."""

    caller: Caller
    operation: Operation
    parameter: Parameter
    ids: Sequence[int]
    token: TokenRef
    priority: Priority
    request_id: str
    expires_at: str
    trace_id: str | None = None
    address: str | None = None
    origin: str | None = None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A job's IDs: all of them, and of how many the end is known. `linked` counts the IDs that the upstream named as linked."""

    total: int
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    linked: int = 0

    @property
    def ended(self) -> int:
        """Of how many IDs the end is known."""
        return self.answered + self.failed + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is stored. Times are UTC, ISO 8601. `basis` marks what its caller's credential rested on."""

    id: str
    caller_id: str
    caller: str
    basis: str
    credential_id: str
    request_id: str
    trace_id: str | None
    address: str | None
    origin: str | None
    operation: str
    parameter: str
    token_id: str
    token: str
    priority: Priority
    state: JobState
    counts: Counts
    uncertain: bool
    cancelling: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str

    @property
    def finished(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one call asks for; `call_id` is the ID of the call that it was last sent with."""

    job_id: str
    seq: int
    ids: tuple[int, ...]
    state: PartState = PartState.WAITING
    call_id: str | None = None
    uncertain: bool = False
    linked: tuple[int, ...] = ()
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEnd:
    """How a part ended: answered with the linked IDs, or failed with a problem. `uncertain`: more may have been linked than is known."""

    part: Part
    state: PartState
    linked: tuple[int, ...] = ()
    problem: Mapping[str, Any] | None = None
    uncertain: bool = False


def cut(ids: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """The IDs in pieces of at most `size`, in their order."""
    rest = iter(ids)
    while piece := tuple(islice(rest, size)):
        yield piece
