"""What an answer means, without any network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import Accepted, Failure, Garbled, Linked, RateLimited, Refused, TimedOut, TokenRejected, TokenValue, Unreachable
from app.upstream import problem_of
from app.upstream.classify import classify, retry_after_seconds
from app.upstream.scrub import Scrubber

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SCRUBBER = Scrubber(TokenValue("a-token-value-0001"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("315360000", 60.0),
        ("0\x1f", 0.0),
        ("9" * 400, 60.0),
        ("Mon, 23 Nov 2036 12:00:00 GMT", 60.0),
        ("-1", None),
        ("1.5", None),
        ("\u0667", None),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60.0),
        ("Mon, 23 Nov 2026 12:01:00", 60.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 23 Nov 99999999999 11:00:00 GMT", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """`Retry-After` counts as seconds from now; what makes no sense is as if it were absent."""
    assert retry_after_seconds(value, NOW) == seconds


@given(st.text())
def test_retry_after_never_fails(value: str) -> None:
    """Whatever an upstream writes there, the answer is a number of seconds or none."""
    seconds = retry_after_seconds(value, NOW)

    assert seconds is None or 0 <= seconds <= 60


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": 1}', b"[1]", b"<html>"])
def test_of_some_answers_only_the_status_matters(body: bytes) -> None:
    """Whatever the body of a probe's 200 is, the request was taken; a refusal is one all the same."""
    assert classify(200, [("Content-Encoding", "gzip")], body, SCRUBBER, NOW, lists_ids=False) == Accepted(200)
    assert classify(403, [], body, SCRUBBER, NOW, lists_ids=False) == TokenRejected(403, body.decode())


@given(status=st.integers(100, 599), body=st.binary(max_size=300), field=st.text(max_size=20))
def test_every_answer_is_some_outcome(status: int, body: bytes, field: str) -> None:
    """No answer, however odd, is anything but one of the outcomes."""
    outcome = classify(status, [("Content-Encoding", field), ("Retry-After", field)], body, SCRUBBER, NOW)

    assert isinstance(outcome, Linked | Refused | TokenRejected | RateLimited | Garbled)


@given(st.lists(st.integers()))
def test_an_array_of_integers_is_a_success(ids: list[int]) -> None:
    """A 200 with an array of integers gives these very integers."""
    assert classify(200, [], repr(ids).encode(), SCRUBBER, NOW) == Linked(tuple(ids))


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_an_encoded_answer_is_refused(encoding: str) -> None:
    """An answer that was encoded though asked not to can't be searched for the token, so it is not used."""
    assert isinstance(classify(200, [("content-encoding", encoding)], b"[]", SCRUBBER, NOW), Garbled)


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_what_can_not_be_searched_is_not_passed_on(status: int) -> None:
    """Of an error that was encoded though asked not to nothing is shown."""
    outcome = classify(status, [("Content-Encoding", "gzip")], b"a-token-value-0001", SCRUBBER, NOW)

    assert isinstance(outcome, Refused | TokenRejected)
    assert outcome.body == ""


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_a_token_in_wide_characters_is_found(encoding: str) -> None:
    """No control character that stands between its letters hides it."""
    outcome = classify(400, [], "said a-token-value-0001 twice".encode(encoding), SCRUBBER, NOW)

    assert isinstance(outcome, Refused)
    assert "said •••" in outcome.body


def test_what_the_upstream_said_is_scrubbed_and_then_cut() -> None:
    """The body that is passed on has at most 2 KiB, and a token across that edge is masked whole."""
    outcome = classify(400, [], b"x" * 2_040 + b"a-token-value-0001" + b"y" * 100, SCRUBBER, NOW)

    assert isinstance(outcome, Refused)
    assert len(outcome.body.encode()) <= 2_048
    assert outcome.body.startswith("x" * 2_040)
    assert "a-tok" not in outcome.body


def test_no_cut_goes_through_a_character() -> None:
    """The cut leaves whole characters."""
    outcome = classify(400, [], ("x" + "é" * 2_000).encode(), SCRUBBER, NOW)

    assert isinstance(outcome, Refused)
    assert "�" not in outcome.body


@pytest.mark.parametrize(
    ("outcome", "code", "status", "uncertain"),
    [
        (Refused(400, "b"), "upstream-bad-request", 400, False),
        (Refused(404, "b"), "upstream-404", 404, False),
        (Refused(422, "b"), "upstream-422", 422, False),
        (Refused(500, "b"), "upstream-error", 502, True),
        (TokenRejected(401, "b"), "upstream-rejected-token", 502, False),
        (TokenRejected(403, "b"), "upstream-rejected-token", 502, False),
        (RateLimited(3.0), "upstream-429", 429, False),
        (Unreachable("r", uncertain=False), "upstream-unreachable", 502, False),
        (Unreachable("r", uncertain=True), "upstream-unreachable", 502, True),
        (TimedOut("r"), "upstream-timeout", 504, True),
        (Garbled("r", 200), "upstream-invalid-response", 502, True),
    ],
)
def test_each_failure_has_its_problem(outcome: Failure, code: str, status: int, uncertain: bool) -> None:  # noqa: FBT001 - a column of the table
    """The problem's code, status and uncertainty follow from the outcome alone."""
    problem = problem_of(outcome)

    assert (problem.code, problem.http_status, problem.uncertain) == (code, status, uncertain)
    assert problem.uncertain == outcome.uncertain


def test_a_date_of_the_past_asks_for_no_wait() -> None:
    """A date that has passed means now."""
    past = (NOW - timedelta(days=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")

    assert retry_after_seconds(past, NOW) == 0
