"""The records of sends: what goes upstream, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from app.audit.records.calls import texts
from app.audit.records.members import (
    CallerName,
    CallId,
    CallIds,
    Chain,
    Count,
    Ids,
    LinkedIds,
    OperationId,
    ParameterName,
    RequestId,
    SendId,
    TokenName,
    TraceId,
    Uncertain,
    UpstreamStatus,
)
from app.audit.records.names import Name
from app.audit.records.record import Record, Told
from app.domain import Accepted, Garbled, Linked, Outcome, RateLimited, Refused, Send, TimedOut, TokenRejected, Unreachable

__all__ = ["Result", "SendIntent", "SendOutcome", "TokenEchoed", "send_intent", "send_outcome", "token_echoed"]

Result = Literal[
    "linked",
    "accepted",
    "refused",
    "tokenrejected",
    "ratelimited",
    "unreachable",
    "timedout",
    "garbled",
    "not-sent",
    "unknown",
]
RESULTS: dict[type[Outcome], Result] = {
    Linked: "linked",
    Accepted: "accepted",
    Refused: "refused",
    TokenRejected: "tokenrejected",
    RateLimited: "ratelimited",
    Unreachable: "unreachable",
    TimedOut: "timedout",
    Garbled: "garbled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried(Told):
    """A send and what it carries; `request_id`, `trace_id`, `call_id` and `caller` are those of the call whose turn it is."""

    send_id: Annotated[SendId, Field(description="The send's ID, a UUIDv7.")]
    token: TokenName
    operation: OperationId
    request_id: RequestId
    trace_id: TraceId | None = None
    call_id: CallId
    caller: CallerName
    call_ids: CallIds


@dataclass(frozen=True, slots=True, kw_only=True)
class SendIntent(_Carried):
    """The next thing that happens is a write to the upstream, for all the calls named."""

    name: Literal[Name.SEND_INTENT] = Name.SEND_INTENT
    attempt: Annotated[int, Field(ge=1, description="The how manieth send it is of the call whose turn it is.")]
    parameter: ParameterName | None = None
    ids: Ids | None = None
    test: Annotated[bool, Field(description="Whether an operator tests the token with it.")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOutcome(_Carried):
    """What the upstream did with one send; the callers may have left before.

    Where no outcome is known it is `not-sent`, or `unknown` if the request had left, or if its process died before it could tell.
    """

    name: Literal[Name.SEND_OUTCOME] = Name.SEND_OUTCOME
    written: Annotated[bool, Field(description="Whether the request left for the upstream; absent where nobody knows.")] | None = None
    result: Annotated[Result, Field(description="What came of it.")]
    upstream_status: UpstreamStatus | None = None
    linked_ids: LinkedIds | None = None
    uncertain: Uncertain
    process: Annotated[Chain, Field(description="The chain of the process that made it and died.")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEchoed(_Carried):
    """The upstream's answer to a send held the token's value, in its headers or its body; it was taken out of both."""

    name: Literal[Name.TOKEN_ECHOED] = Name.TOKEN_ECHOED
    finds: Annotated[Count, Field(description="How often it held it.")]


def send_intent(send: Send) -> Record:
    """The next thing that happens is a write to the upstream, for all the calls named."""
    first, operation = send.calls[0], send.operation
    return SendIntent(
        send_id=send.id,
        token=first.token.name,
        operation=operation.id,
        request_id=first.request_id,
        trace_id=first.trace_id,
        call_id=first.id,
        caller=first.caller.name,
        call_ids=_ids_of(send),
        attempt=send.attempt,
        parameter=first.parameter.name or None,
        ids=texts(send.ids) if operation.parameters else None,
        test=first.test or None,
    ).record()


def send_outcome(send: Send, outcome: Outcome | None, *, written: bool) -> Record:
    """What the upstream did with one send; None where no outcome is known."""
    first = send.calls[0]
    return SendOutcome(
        send_id=send.id,
        token=first.token.name,
        operation=first.operation.id,
        request_id=first.request_id,
        trace_id=first.trace_id,
        call_id=first.id,
        caller=first.caller.name,
        call_ids=_ids_of(send),
        written=written,
        result=RESULTS[type(outcome)] if outcome else _unknown(written=written),
        upstream_status=outcome.status if outcome else None,
        linked_ids=texts(outcome.order_ids) if isinstance(outcome, Linked) else None,
        uncertain=outcome.uncertain if outcome else written,
    ).record()


def token_echoed(send: Send, finds: int) -> Record:
    """The upstream's answer to a send held the token's value so many times."""
    first = send.calls[0]
    return TokenEchoed(
        send_id=send.id,
        token=first.token.name,
        operation=first.operation.id,
        request_id=first.request_id,
        trace_id=first.trace_id,
        call_id=first.id,
        caller=first.caller.name,
        call_ids=_ids_of(send),
        finds=finds,
    ).record()


def _ids_of(send: Send) -> list[str]:
    return [call.id for call in send.calls]


def _unknown(*, written: bool) -> Result:
    return "unknown" if written else "not-sent"
