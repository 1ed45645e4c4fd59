"""What became of each ID of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.jobs.job import Part, PartState

__all__ = ["FAILING", "IdOutcome", "IdResult", "others_linked", "results_of"]

FAILING = (PartState.FAILED, PartState.EXPIRED)
"""The parts whose IDs count as failed."""
EXPIRY: Mapping[str, Any] = {
    "type": "/gateway/problems/deadline-exceeded",
    "title": "The caller's wait ran out",
    "status": 504,
    "detail": "the job's time ran out before its turn came; nothing was sent",
}


class IdOutcome(StrEnum):
    """How far an ID is: `waiting` until its end is known."""

    WAITING = "waiting"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class IdResult:
    """What became of one ID. `linked`: whether the upstream named it as linked; None where its answer can't tell, or there is none."""

    id: int
    outcome: IdOutcome
    linked: bool | None
    uncertain: bool
    problem: Mapping[str, Any] | None


def results_of(part: Part, *, told_apart: bool) -> Iterator[IdResult]:
    """Of each ID of a part; `told_apart`: the upstream's answer lists IDs of the same sort."""
    outcome = IdOutcome.WAITING if part.state is PartState.TAKEN else IdOutcome(part.state.value)
    problem = EXPIRY if part.state is PartState.EXPIRED else part.problem
    linked = frozenset(part.linked) if told_apart and part.state is PartState.ANSWERED else None
    for one in part.ids:
        yield IdResult(one, outcome, None if linked is None else one in linked, part.uncertain, problem)


def others_linked(part: Part, *, told_apart: bool) -> Iterator[int]:
    """The orders that the upstream named as linked and that are none of the part's IDs."""
    ids = frozenset(part.ids) if told_apart else frozenset()
    return (one for one in part.linked if one not in ids)
