from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import (
    PROBLEMS,
    AuditUnavailable,
    CallerRateExceeded,
    CredentialsInvalid,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    NotFound,
    ParameterInvalid,
    QueueFull,
    ShuttingDown,
    TokenNotGranted,
    TokenSuspended,
    TokenUnavailable,
    UpstreamBadRequest,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRefused,
    UpstreamRejectedToken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from app.jobs import Part, PartEnd, PartState
from app.jobs.conclusion import Again, Halves, concluded, resumed

PART = Part(job_id="job", seq=1, ids=(1, 2, 3), state=PartState.TAKEN, call_id="call")
ALONE = replace(PART, ids=(1,))
CODES = [*(code for code in PROBLEMS if code != "upstream-4xx"), "upstream-409", "upstream-404", "ok", "not-sent", "unknown", "caller-gone"]


def test_an_answer_ends_its_part() -> None:
    """With the IDs that it names as linked."""
    assert concluded(PART, (1, 3), uncertain=False) == PartEnd(part=PART, state=PartState.ANSWERED, linked=(1, 3))


@pytest.mark.parametrize(
    "error",
    [
        QueueFull("full"),
        TokenSuspended("suspended", retry_after=60),
        AuditUnavailable("no record"),
        ShuttingDown("ends"),
        DeadlineExceeded("given up"),
        CallerRateExceeded("too many"),
        UpstreamRefused("limited", status=429),
        UpstreamRejectedToken("rejected"),
        UpstreamError("out of order", uncertain=True, upstream_status=503),
        UpstreamError("a defect there", uncertain=True, upstream_status=500),
        UpstreamUnreachable("no connection"),
        UpstreamTimeout("no answer", uncertain=True),
    ],
)
def test_what_passes_is_waited_for(error: GatewayError) -> None:
    """Neither the gateway's state nor the upstream's is a matter of the IDs; what may have been done is marked."""
    verdict = concluded(PART, error, uncertain=False)

    assert isinstance(verdict, Again)
    assert verdict.part.uncertain is error.uncertain
    assert verdict.pause == (0 if isinstance(error, DeadlineExceeded) else error.retry_after or 1)


@pytest.mark.parametrize(
    "error",
    [
        TokenUnavailable("disabled"),
        TokenNotGranted("taken back"),
        CredentialsInvalid("withdrawn"),
        NotFound("no such operation"),
        InternalError("a defect", uncertain=True),
        DeadlineExceeded("under way", uncertain=True),
        UpstreamInvalidResponse("garbage", uncertain=True),
        UpstreamRefused("a clash", status=409),
    ],
)
def test_what_doesnt_pass_fails_with_its_problem(error: GatewayError) -> None:
    """A job doesn't wait for ever for what an operator or a caller took away."""
    verdict = concluded(PART, error, uncertain=False)

    assert isinstance(verdict, PartEnd)
    assert (verdict.state, verdict.uncertain) == (PartState.FAILED, error.uncertain)
    assert verdict.problem is not None
    assert verdict.problem["type"] == f"/gateway/problems/{error.code}"


@pytest.mark.parametrize(
    "error", [UpstreamBadRequest("no"), UpstreamRefused("unknown", status=404), UpstreamRefused("no", status=422), ParameterInvalid("cap")]
)
def test_a_refused_list_is_halved_until_one_id_stands_alone(error: GatewayError) -> None:
    """What is said of a list holds for one of its IDs at least; a list may also have become too long for the operation."""
    alone = concluded(ALONE, error, uncertain=False)

    assert concluded(PART, error, uncertain=False) == Halves(PART)
    assert isinstance(alone, PartEnd)
    assert alone.state is PartState.FAILED


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeout("no answer", uncertain=True),
        UpstreamError("no", uncertain=True, upstream_status=502),
        UpstreamError("a defect", uncertain=True, upstream_status=500),
    ],
)
def test_what_may_not_be_repeated_isnt_sent_again(error: GatewayError) -> None:
    """Of an operation that isn't idempotent, a part whose effect isn't known has failed, and is marked."""
    verdict = concluded(PART, error, uncertain=False, idempotent=False)

    assert isinstance(verdict, PartEnd)
    assert (verdict.state, verdict.uncertain) == (PartState.FAILED, True)


@pytest.mark.parametrize("outcome", [None, {"code": "not-sent"}, {"code": "caller-gone", "uncertain": False}, {"code": "shutting-down"}])
def test_what_was_never_sent_is_sent_after_a_restart(outcome: dict[str, Any] | None) -> None:
    """And nothing is uncertain about it, whatever the operation."""
    verdict = resumed(PART, outcome, idempotent=False)

    assert isinstance(verdict, Again)
    assert not verdict.part.uncertain


@pytest.mark.parametrize("code", ["unknown", "caller-gone"])
def test_what_has_no_known_end_is_sent_again_and_marked(code: str) -> None:
    """Unless the operation may not be repeated: then it has failed."""
    outcome = {"code": code, "uncertain": True}
    again, failed = resumed(PART, outcome), resumed(PART, outcome, idempotent=False)

    assert again == Again(replace(PART, uncertain=True))
    assert isinstance(failed, PartEnd)
    assert (failed.state, failed.uncertain) == (PartState.FAILED, True)


def test_what_was_answered_before_a_restart_is_taken_from_the_record() -> None:
    """IDs are text there."""
    outcome = {"code": "ok", "linked_ids": ["1", "3"], "uncertain": True}

    assert resumed(PART, outcome) == PartEnd(part=replace(PART, uncertain=True), state=PartState.ANSWERED, linked=(1, 3), uncertain=True)


def test_a_list_that_was_refused_before_a_restart_is_halved_after_it() -> None:
    """The record tells of the refusal what the answer would have told."""
    assert resumed(PART, {"code": "upstream-404", "upstream_status": 404}) == Halves(PART)
    assert resumed(PART, {"code": "upstream-bad-request", "upstream_status": 400}) == Halves(PART)


@given(st.sampled_from(CODES), st.booleans(), st.booleans(), st.booleans())
def test_uncertainty_is_never_lost(code: str, before: bool, now: bool, idempotent: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever is on record, what was once uncertain stays so, and a problem has type, title, status and detail."""
    status = int(code[-3:]) if code[-3:].isdecimal() else None
    outcome = {"code": code, "uncertain": now} | ({"upstream_status": status} if status else {})
    verdict = resumed(replace(PART, uncertain=before), outcome, idempotent=idempotent)

    marked = verdict.uncertain if isinstance(verdict, PartEnd) else verdict.part.uncertain
    assert marked or not (before or (now and code != "not-sent"))
    problem = verdict.problem if isinstance(verdict, PartEnd) else None
    assert problem is None or {"type", "title", "status", "detail"} <= problem.keys()
