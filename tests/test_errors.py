"""The tree of problems: complete, described, and as the contract has it."""

from __future__ import annotations

import inspect
import re

import pytest

from app import errors
from app.errors import PROBLEMS, GatewayError, StartRefused, UpstreamRefused, WaitTooLong

CONTRACT = {
    "parameter-missing": 400,
    "parameter-conflict": 400,
    "parameter-unknown": 400,
    "parameter-invalid": 400,
    "body-not-allowed": 400,
    "token-ambiguous": 400,
    "request-malformed": 400,
    "host-not-allowed": 400,
    "upstream-bad-request": 400,
    "credentials-missing": 401,
    "credentials-invalid": 401,
    "upstream-token-presented": 401,
    "operation-not-granted": 403,
    "token-not-granted": 403,
    "token-kind-not-accepted": 403,
    "role-required": 403,
    "origin-not-allowed": 403,
    "ticket-ids-not-allowed": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "request-timeout": 408,
    "conflict": 409,
    "body-too-large": 413,
    "uri-too-long": 414,
    "media-type-not-supported": 415,
    "idempotency-mismatch": 422,
    "headers-too-large": 431,
    "caller-rate-exceeded": 429,
    "job-quota-exceeded": 429,
    "internal-error": 500,
    "upstream-rejected-token": 502,
    "upstream-error": 502,
    "upstream-invalid-response": 502,
    "upstream-unreachable": 502,
    "queue-full": 503,
    "wait-too-long": 503,
    "token-suspended": 503,
    "token-unavailable": 503,
    "audit-unavailable": 503,
    "pacing-unavailable": 503,
    "shutting-down": 503,
    "too-many-followers": 503,
    "deadline-exceeded": 504,
    "upstream-timeout": 504,
}
"""What clients rely on: every code with its status, as the design's table of codes has them."""


def classes(parent: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    """Every class of the tree but its root."""
    own = [child for child in parent.__subclasses__() if child.__module__ == errors.__name__]
    return own + [found for child in own for found in classes(child)]


LEAVES = [kind for kind in classes() if not kind.__subclasses__()]


def test_codes_and_statuses_are_the_contracts() -> None:
    """Every code that the contract names has its status, and no other code is given but the upstream's own 4xx."""
    found = {code: kind.status for code, kind in PROBLEMS.items() if kind is not UpstreamRefused}

    assert found == CONTRACT


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_problem_is_described(kind: type[GatewayError]) -> None:
    """Each problem that a call can get has a code in the contract's spelling, a title of a few words, and an explanation."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind.code)
    assert PROBLEMS[kind.code] is kind
    assert 0 < len(kind.title()) < 60
    assert not kind.title().endswith(".")
    assert kind.explanation().endswith(".")


def test_no_two_problems_share_a_code() -> None:
    """A code names one problem, and a class that only groups others has none."""
    codes = [kind.code for kind in LEAVES]

    assert len(set(codes)) == len(codes) == len(PROBLEMS)
    assert [kind.__name__ for kind in classes() if kind not in LEAVES and kind.code] == []


def test_the_drawn_tree_is_the_real_one() -> None:
    """The module's docstring draws every class under its parent, and no class that there isn't."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for indent, text in re.findall(r"^( *)- (.+)$", inspect.getdoc(errors) or "", re.MULTILINE):
        names = re.findall(r"\b[A-Z][A-Za-z]+(?=$| ·| \()", text.partition(":")[0])
        path[len(indent) // 2 :] = [names[0]]
        drawn |= dict.fromkeys(names, path[-2] if len(path) > 1 else "")

    assert drawn.pop("StartRefused") == ""
    assert drawn == {"GatewayError": ""} | {kind.__name__: (kind.__base__ or object).__name__ for kind in classes()}


def test_a_problem_carries_what_it_was_given() -> None:
    """A problem's detail, times and members are those of its occurrence; its status and title those of its kind."""
    error = WaitTooLong("the wait would be 40 s", retry_after=9.5, uncertain=True, predicted_wait=40)

    assert (error.detail, str(error)) == ("the wait would be 40 s", "the wait would be 40 s")
    assert (error.retry_after, error.uncertain, error.members) == (9.5, True, {"predicted_wait": 40})
    assert (error.code, error.http_status, error.title()) == ("wait-too-long", 503, "The wait would be too long")


def test_a_problem_holds_nothing_that_it_wasnt_given() -> None:
    """Without more, a problem is a detail: no time is known, nothing is uncertain, no members."""
    error = WaitTooLong("too long")

    assert (error.retry_after, error.uncertain, error.members) == (None, False, {})


@pytest.mark.parametrize("status", [404, 418, 422, 451])
def test_the_upstreams_own_refusals_keep_their_status(status: int) -> None:
    """Another 4xx of the upstream is passed on with its status, under a code of its own."""
    error = UpstreamRefused("Flxpoint refused the call", status=status, retry_after=3, upstream_body="no")

    assert (error.code, error.http_status) == (f"upstream-{status}", status)
    assert (error.retry_after, error.members) == (3, {"upstream_body": "no"})
    assert PROBLEMS["upstream-4xx"] is UpstreamRefused


def test_a_refused_start_is_no_problem_of_a_call() -> None:
    """What stops the start can't be given to a caller by mistake."""
    assert not issubclass(StartRefused, GatewayError)
    assert StartRefused.__name__ not in {kind.__name__ for kind in PROBLEMS.values()}
