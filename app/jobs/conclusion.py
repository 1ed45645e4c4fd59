"""What becomes of a part once its call has ended: it has ended too, waits again, or is halved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.errors import (
    PROBLEMS,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    ParameterInvalid,
    TokenUnavailable,
    Unavailable,
    UpstreamError,
    UpstreamRefused,
    UpstreamRejectedToken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from app.jobs.job import Part, PartEnd, PartState

__all__ = ["Again", "Halves", "Verdict", "concluded", "problem_of", "resumed"]

TELLING_STATUSES = frozenset({400, 404, 413, 414, 422})
PASSING_STATUSES = frozenset({502, 503, 504})
TOO_MANY_REQUESTS = 429
PAUSE_SECONDS = 1.0
NEVER_SENT = frozenset({"not-sent"})
NOT_KNOWN = frozenset({"unknown", "caller-gone"})
LEFT_BEHIND = "the process that had this under way ended; this is what it left on record"


@dataclass(frozen=True, slots=True)
class Again:
    """It waits again, and its lane makes a pause of so many seconds at least.

    `instead` is how the part ends where it is given up after all; None: it was no fault of the upstream's, and it isn't given up.
    `suspect`: the part itself may be at fault.
    """

    part: Part
    pause: float = 0.0
    instead: PartEnd | None = None
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Halves:
    """One of its IDs is refused: each half is asked for alone, until the one is found."""

    part: Part


Verdict = PartEnd | Again | Halves


def concluded(
    part: Part, result: tuple[int, ...] | GatewayError, *, uncertain: bool, idempotent: bool = True, divisible: bool = True
) -> Verdict:
    """What an answer means for the part that it is for.

    What passes by itself is waited for: refusals of the gateway's own, but not that of a token which an operator disabled; a token that
    Flxpoint rejects, for it may be rotated; and, where the operation may be repeated, an upstream that is out of order. What Flxpoint says
    of a list holds for one ID of it at least, so the list is halved.

    Args:
        part: the part.
        result: the linked IDs, or a problem.
        uncertain: whether more may have been linked than the result says.
        idempotent: whether the operation may be repeated though its effect isn't known.
        divisible: whether its IDs may be asked for in several calls.
    """
    part = replace(part, uncertain=part.uncertain or uncertain)
    if not isinstance(result, GatewayError):
        return PartEnd(part=part, state=PartState.ANSWERED, linked=result, uncertain=part.uncertain)
    part = replace(part, uncertain=part.uncertain or result.uncertain)
    failed = PartEnd(part=part, state=PartState.FAILED, problem=problem_of(result), uncertain=part.uncertain)
    if _passes(result) and (idempotent or not part.uncertain):
        return Again(part, _pause(result), failed if _is_upstreams(result) else None, suspect=_is_defect(result))
    return Halves(part) if divisible and _is_of_one_id(result) and len(part.ids) > 1 else failed


def resumed(part: Part, outcome: Mapping[str, Any] | None, *, idempotent: bool = True, divisible: bool = True) -> Verdict:
    """What the record says of a part whose process died.

    Args:
        part: the part.
        outcome: its call's; None where the call was never on record, so that nothing was sent.
        idempotent: whether the operation may be repeated though its effect isn't known.
        divisible: whether its IDs may be asked for in several calls.
    """
    if outcome is None or outcome["code"] in NEVER_SENT:
        return Again(part)
    uncertain = bool(outcome.get("uncertain"))
    if outcome["code"] == "ok":
        return concluded(part, tuple(map(int, outcome.get("linked_ids", ()))), uncertain=uncertain)
    if outcome["code"] in NOT_KNOWN and (idempotent or not uncertain):
        return Again(replace(part, uncertain=part.uncertain or uncertain))
    return concluded(part, _on_record(outcome, uncertain=uncertain), uncertain=uncertain, idempotent=idempotent, divisible=divisible)


def problem_of(error: GatewayError) -> dict[str, Any]:
    """A failure as it stands in a job: the problem without what belongs to one request alone."""
    return {
        "type": f"/gateway/problems/{error.code}",
        "title": error.title(),
        "status": error.http_status,
        "detail": error.detail,
        **error.members,
    }


def _on_record(outcome: Mapping[str, Any], *, uncertain: bool) -> GatewayError:
    """The problem that an outcome tells of."""
    code, status = outcome["code"], outcome.get("upstream_status")
    if code in NOT_KNOWN:
        return UpstreamUnreachable(LEFT_BEHIND, uncertain=uncertain)
    if code.startswith("upstream-") and code not in PROBLEMS and status is not None:
        return UpstreamRefused(LEFT_BEHIND, status=status)
    members = {} if status is None else {"upstream_status": status}
    return PROBLEMS.get(code, InternalError)(LEFT_BEHIND, uncertain=uncertain, **members)


def _passes(error: GatewayError) -> bool:
    if isinstance(error, TokenUnavailable):
        return False
    if isinstance(error, Unavailable | DeadlineExceeded):
        return not error.uncertain
    return error.http_status == TOO_MANY_REQUESTS or _is_upstreams(error)


def _pause(error: GatewayError) -> float:
    """How long to wait before the next attempt; in seconds. A call that was given up has its reason in its job, not in its lane."""
    return 0.0 if isinstance(error, DeadlineExceeded) else error.retry_after or PAUSE_SECONDS


def _is_upstreams(error: GatewayError) -> bool:
    """Whether Flxpoint is out of order, or out of reach, or takes the token no more: most likely no matter of the IDs."""
    return isinstance(error, UpstreamError | UpstreamUnreachable | UpstreamTimeout | UpstreamRejectedToken)


def _is_defect(error: GatewayError) -> bool:
    """Whether Flxpoint failed by a defect, which may be one that these IDs bring about every time."""
    return isinstance(error, UpstreamError) and error.members.get("upstream_status") not in PASSING_STATUSES


def _is_of_one_id(error: GatewayError) -> bool:
    """Whether fewer IDs may fare better: one is refused, or the operation takes fewer at once than when the job was cut."""
    return isinstance(error, ParameterInvalid) or (error.http_status in TELLING_STATUSES and error.code.startswith("upstream-"))
