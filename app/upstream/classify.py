"""What an answer means: pure functions from what came back to an outcome, and from an outcome to the caller's problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from app.domain import Accepted, Failure, Garbled, Linked, Outcome, RateLimited, Refused, TimedOut, TokenRejected, Unreachable
from app.errors import (
    GatewayError,
    UpstreamBadRequest,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRefused,
    UpstreamRejectedToken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from app.upstream.scrub import Scrubber, readable

__all__ = ["classify", "problem_of", "retry_after_seconds"]

OK = 200
BAD_REQUEST = 400
TOKEN_REFUSALS = (401, 403)
TOO_MANY = 429
CLIENT_ERRORS = range(400, 500)
SERVER_ERRORS = range(500, 600)
SHOWN_BYTES = 2048
ASSUMED_RETRY_AFTER = 1.0
LONGEST_RETRY_AFTER = 60.0


def classify(  # noqa: PLR0913 - an answer's parts
    status: int,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    scrubber: Scrubber,
    now: datetime,
    *,
    lists_ids: bool = True,
) -> Outcome:
    """The outcome of a whole answer.

    Args:
        status: the HTTP status.
        headers: names and values, as they came.
        body: the whole body, as it came (it was asked for unencoded).
        scrubber: finds the token's value in what is passed on.
        now: the time in UTC, for a `Retry-After` that is a date.
        lists_ids: whether the body is to be a list of IDs; otherwise only the status matters.
    """
    fields = {name.lower(): value for name, value in headers}
    if status == OK:
        return _linked(fields, body) if lists_ids else Accepted(status)
    if status == TOO_MANY:
        return RateLimited(retry_after_seconds(fields.get("retry-after"), now))
    if status in TOKEN_REFUSALS:
        return TokenRejected(status, _shown(fields, body, scrubber))
    if status in CLIENT_ERRORS or status in SERVER_ERRORS:
        return Refused(status, _shown(fields, body, scrubber))
    return Garbled(f"the upstream answered {status}, which the operation doesn't promise", status)


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """The seconds that a `Retry-After` names (RFC 9110, section 10.2.3), 60 s at most; None where it is absent or makes no sense."""
    if value is None:
        return None
    digits = value.strip()
    if digits.isascii() and digits.isdecimal():
        return min(float(digits), LONGEST_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except (OverflowError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, (date - now).total_seconds()), LONGEST_RETRY_AFTER)


def problem_of(outcome: Accepted | Failure) -> GatewayError:  # noqa: PLR0911 - one for each outcome
    """The problem that the caller gets for a send that failed, or that gave no list of IDs."""
    match outcome:
        case Refused(status=400, body=body):
            return UpstreamBadRequest("Flxpoint answered 400", upstream_body=body)
        case Refused(status=status, body=body) if status in SERVER_ERRORS:
            return UpstreamError(f"Flxpoint answered {status}", uncertain=True, upstream_status=status, upstream_body=body)
        case Refused(status=status, body=body):
            return UpstreamRefused(f"Flxpoint answered {status}", status=status, upstream_body=body)
        case TokenRejected(status=status, body=body):
            return UpstreamRejectedToken(f"Flxpoint answered {status} to the gateway's token", upstream_status=status, upstream_body=body)
        case RateLimited(retry_after=retry_after):
            wait = ASSUMED_RETRY_AFTER if retry_after is None else retry_after
            return UpstreamRefused("Flxpoint answered 429 to the gateway's token", status=TOO_MANY, retry_after=wait)
        case Unreachable(reason=reason, uncertain=uncertain):
            return UpstreamUnreachable(reason, uncertain=uncertain)
        case TimedOut(reason=reason):
            return UpstreamTimeout(reason, uncertain=True)
        case Accepted(status=status):
            return UpstreamInvalidResponse(f"Flxpoint answered {status}, and its answer was not read", uncertain=True)
        case Garbled(reason=reason):
            return UpstreamInvalidResponse(reason, uncertain=True)


def _linked(fields: dict[str, str], body: bytes) -> Linked | Garbled:
    if _is_encoded(fields):
        return Garbled("the upstream encoded its answer though asked not to", OK)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Garbled("the upstream's answer is not JSON", OK)
    if not isinstance(answer, list) or not all(type(one) is int for one in answer):
        return Garbled("the upstream's answer is not an array of integers", OK)
    return Linked(tuple(answer))


def _is_encoded(fields: dict[str, str]) -> bool:
    """Whether the body is compressed, though it was asked for as it is: then nothing can be found in it."""
    return fields.get("content-encoding", "identity").lower() not in ("identity", "")


def _shown(fields: dict[str, str], body: bytes, scrubber: Scrubber) -> str:
    """What the upstream said, scrubbed first and cut after, so that no cut hides a part of the token; nothing that can't be searched."""
    if _is_encoded(fields):
        return ""
    text, _ = scrubber.scrub(readable(body))
    return text.encode()[:SHOWN_BYTES].decode("utf-8", errors="ignore")
