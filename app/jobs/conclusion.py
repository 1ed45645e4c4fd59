"""What becomes of a part once its call has ended: it has ended too, waits again, or is halved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.errors import DeadlineExceeded, GatewayError, Unavailable
from app.jobs.job import Part, PartEnd, PartState

__all__ = ["Again", "Halves", "Verdict", "concluded", "problem_of", "resumed"]

TELLING_STATUSES = frozenset({400, 404, 413, 414, 422})
TOO_MANY_REQUESTS = 429
PAUSE_SECONDS = 1.0
PASSING = frozenset(
    {"queue-full", "wait-too-long", "token-suspended", "audit-unavailable", "pacing-unavailable", "shutting-down", "not-sent"}
)
LEFT_BEHIND = "the process that had sent this ended; this is what it left on record"


@dataclass(frozen=True, slots=True)
class Again:
    """It waits again, and its job makes a pause of so many seconds."""

    part: Part
    pause: float


@dataclass(frozen=True, slots=True)
class Halves:
    """One of its IDs is refused: each half is asked for alone, until the one is found."""

    part: Part


Verdict = PartEnd | Again | Halves


def concluded(part: Part, result: tuple[int, ...] | GatewayError, *, uncertain: bool, divisible: bool = True) -> Verdict:
    """What an answer means for the part that it is for.

    What passes by itself is waited for. What Flxpoint says of a list holds for one ID of it at least, so the list is halved,
    where it is `divisible`.
    """
    uncertain = uncertain or part.uncertain
    if not isinstance(result, GatewayError):
        return PartEnd(part=part, state=PartState.ANSWERED, linked=result, uncertain=uncertain)
    if _passes(result) and not result.uncertain:
        return Again(replace(part, uncertain=uncertain), result.retry_after or PAUSE_SECONDS)
    if divisible and result.http_status in TELLING_STATUSES and result.code.startswith("upstream-") and len(part.ids) > 1:
        return Halves(replace(part, uncertain=uncertain))
    return PartEnd(part=part, state=PartState.FAILED, problem=problem_of(result), uncertain=uncertain)


def resumed(part: Part, outcome: Mapping[str, Any] | None) -> Verdict:
    """What the record says of a part whose process died; `outcome` is its call's, None where the call was never on record."""
    if outcome is None or outcome["code"] in PASSING:
        return Again(part, 0)
    if outcome["code"] == "ok":
        linked = tuple(map(int, outcome.get("linked_ids", ())))
        return PartEnd(part=part, state=PartState.ANSWERED, linked=linked, uncertain=part.uncertain or outcome["uncertain"])
    if outcome["code"] in {"unknown", "caller-gone"}:
        return Again(replace(part, uncertain=part.uncertain or outcome["uncertain"]), 0)
    problem = {"type": f"/gateway/problems/{outcome['code']}", "detail": LEFT_BEHIND}
    return PartEnd(part=part, state=PartState.FAILED, problem=problem, uncertain=part.uncertain or outcome["uncertain"])


def problem_of(error: GatewayError) -> dict[str, Any]:
    """A failure as it stands in a job: the problem without what belongs to one request alone."""
    return {
        "type": f"/gateway/problems/{error.code}",
        "title": error.title(),
        "status": error.http_status,
        "detail": error.detail,
        **error.members,
    }


def _passes(error: GatewayError) -> bool:
    return isinstance(error, Unavailable | DeadlineExceeded) or error.http_status == TOO_MANY_REQUESTS
