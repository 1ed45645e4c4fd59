"""The reading of an answer: what it means, how often it says the token's value, and whether it can be the send's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain import Linked, Outcome, Send, TokenValue
from app.upstream.classify import classify
from app.upstream.scrub import Scrubber, readable
from app.upstream.wire import Answer

__all__ = ["Reading", "read"]

MOST_ON_LOOP = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says. `echoes`: how often it holds the token's value; `own`: nothing speaks for its being another send's."""

    outcome: Outcome
    echoes: int
    own: bool


async def read(send: Send, value: TokenValue, answer: Answer) -> Reading:
    """Read a whole answer to a send that went with this value.

    A long one in a thread: to search a mebibyte that is made for it takes a second, in which no lane could send.
    """
    if _length(answer) > MOST_ON_LOOP:
        return await asyncio.to_thread(_read, send, value, answer)
    return _read(send, value, answer)


def _read(send: Send, value: TokenValue, answer: Answer) -> Reading:
    scrubber = Scrubber(value)
    lists_ids, now = bool(send.operation.parameters), datetime.now(UTC)
    outcome = classify(answer.status, answer.headers, answer.body, scrubber, now, lists_ids=lists_ids)
    return Reading(outcome, _echoes(scrubber, answer), _is_own(outcome, send))


def _is_own(outcome: Outcome, send: Send) -> bool:
    """Whether nobody else's IDs are listed. Of a parameter whose answer lists IDs of another sort nothing can be told."""
    return not (isinstance(outcome, Linked) and send.parameter.coalesce) or set(outcome.order_ids) <= set(send.ids)


def _echoes(scrubber: Scrubber, answer: Answer) -> int:
    """How often the token's value stands in an answer, its headers included."""
    said = "\n".join([*(f"{name}: {field}" for name, field in answer.headers), readable(answer.body)])
    return scrubber.scrub(said)[1]


def _length(answer: Answer) -> int:
    return len(answer.body) + sum(len(name) + len(field) for name, field in answer.headers)
