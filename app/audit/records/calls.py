"""The records of calls: taken in, refused, ended; and of the tickets that some are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from app.audit.records.members import (
    Address,
    Attempts,
    CallerName,
    CallId,
    Chain,
    Code,
    Count,
    CredentialId,
    Ends,
    Ids,
    LinkedIds,
    OperationId,
    Operations,
    OriginName,
    ParameterName,
    QueueMs,
    Reason,
    RequestId,
    SendId,
    TokenName,
    TraceId,
    Uncertain,
    UpstreamMs,
    UpstreamStatus,
)
from app.audit.records.names import Name
from app.audit.records.record import Record, Told
from app.domain import Asked, Call, Caller, Linked, PageTicket, Parameter
from app.errors import GatewayError

__all__ = [
    "Accepted",
    "CallIntent",
    "CallOutcome",
    "CallRefused",
    "RefusalsCounted",
    "Requested",
    "TicketIssued",
    "call_intent",
    "call_outcome",
    "call_refused",
    "refusals_counted",
    "ticket_issued",
]

Accepted = Annotated[Literal["accepted"], Field(description="The gateway took the call in.")]
Refused = Annotated[Literal["refused"], Field(description="The gateway didn't take the call in.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested(Told):
    """What came in with a request, and whose it was."""

    request_id: RequestId
    trace_id: TraceId | None = None
    caller: CallerName
    credential_id: CredentialId
    address: Address | None = None
    origin: OriginName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accepted(Requested):
    """A call that was taken in, and what it asks for."""

    decision: Accepted = "accepted"
    call_id: CallId
    operation: OperationId
    parameter: ParameterName
    ids: Ids
    token: TokenName


@dataclass(frozen=True, slots=True, kw_only=True)
class CallIntent(_Accepted):
    """A call was taken in and will be sent when its turn comes."""

    name: Literal[Name.CALL_INTENT] = Name.CALL_INTENT


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOutcome(_Accepted):
    """How a call that was taken in ended for its caller.

    `code` is `ok`, a problem's, or `caller-gone`. Where its process died before it could tell, another tells: as its last
    send ended, `not-sent`, or `unknown`.
    """

    name: Literal[Name.CALL_OUTCOME] = Name.CALL_OUTCOME
    code: Code
    send_id: SendId | None = None
    attempts: Attempts | None = None
    queue_ms: QueueMs | None = None
    upstream_ms: UpstreamMs | None = None
    upstream_status: UpstreamStatus | None = None
    linked_ids: LinkedIds | None = None
    uncertain: Uncertain
    process: Annotated[Chain, Field(description="The chain of the process that took it in and died.")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused(Requested):
    """A known caller's call was refused here; nothing was sent. It has its parameter and IDs where they could be read."""

    name: Literal[Name.CALL_REFUSED] = Name.CALL_REFUSED
    decision: Refused = "refused"
    operation: OperationId
    parameter: ParameterName | None = None
    ids: Ids | None = None
    token: TokenName | None = None
    code: Code
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalsCounted(Told):
    """So many requests from one address were refused with one code since the last such record, before they became calls."""

    name: Literal[Name.REFUSALS_COUNTED] = Name.REFUSALS_COUNTED
    address: Annotated[Address, Field(description="The address or IPv6 network that they came from; `other` where it isn't told apart.")]
    caller: CallerName | None = None
    code: Code
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketIssued(Requested):
    """A ticket is given out; `origin` is that of the page which it is good on."""

    name: Literal[Name.TICKET_ISSUED] = Name.TICKET_ISSUED
    ticket_id: Annotated[str, Field(description="The ticket's ID; `ticket:` and this is the `credential_id` in its calls' records.")]
    token: TokenName
    operations: Operations
    parameter: ParameterName | None = None
    ids: Annotated[Ids, Field(description="The only IDs that it may be used for.")] | None = None
    expires_at: Ends


def call_intent(call: Call) -> Record:
    """A call was taken in and will be sent when its turn comes."""
    return CallIntent(
        request_id=call.request_id,
        trace_id=call.trace_id,
        caller=call.caller.name,
        credential_id=call.caller.credential_id,
        address=call.address,
        origin=call.origin,
        call_id=call.id,
        operation=call.operation.id,
        parameter=call.parameter.name,
        ids=texts(call.ids),
        token=call.token.name,
    ).record()


def call_outcome(  # noqa: PLR0913 - a record's members
    call: Call,
    *,
    code: str,
    linked: Linked | None = None,
    upstream_status: int | None = None,
    send_id: str | None = None,
    attempts: int = 0,
    queued: float | None = None,
    upstream: float | None = None,
    uncertain: bool = False,
) -> Record:
    """How a call that was taken in ended for its caller; `code` is `ok`, a problem's, or `caller-gone`. Times in seconds."""
    return CallOutcome(
        request_id=call.request_id,
        trace_id=call.trace_id,
        caller=call.caller.name,
        credential_id=call.caller.credential_id,
        address=call.address,
        origin=call.origin,
        call_id=call.id,
        operation=call.operation.id,
        parameter=call.parameter.name,
        ids=texts(call.ids),
        token=call.token.name,
        code=code,
        send_id=send_id,
        attempts=attempts,
        queue_ms=_ms(queued),
        upstream_ms=_ms(upstream),
        upstream_status=upstream_status,
        linked_ids=texts(linked.order_ids) if linked else None,
        uncertain=uncertain,
    ).record()


def call_refused(asked: Asked, error: GatewayError, *, read: tuple[Parameter, tuple[int, ...]] | None, token: str | None) -> Record:
    """A known caller's call was refused here; nothing was sent.

    Args:
        asked: the request.
        error: the refusal.
        read: the parameter and the IDs, where the request could be read that far.
        token: the name of the token, where one had been chosen.
    """
    return CallRefused(
        request_id=asked.request_id,
        trace_id=asked.trace_id,
        caller=asked.caller.name,
        credential_id=asked.caller.credential_id,
        address=asked.address,
        origin=asked.origin,
        operation=asked.operation.id,
        parameter=read[0].name if read else None,
        ids=texts(read[1]) if read else None,
        token=token,
        code=error.code,
        reason=error.detail,
    ).record()


def refusals_counted(*, address: str, caller: str | None, code: str, count: int) -> Record:
    """So many requests from one address were refused with one code since the last such record, before they became calls."""
    return RefusalsCounted(address=address, caller=caller, code=code, count=count).record()


def ticket_issued(ticket: PageTicket, *, request_id: str, trace_id: str | None, caller: Caller, address: str | None) -> Record:
    """A ticket is given out."""
    return TicketIssued(
        request_id=request_id,
        trace_id=trace_id,
        caller=caller.name,
        credential_id=caller.credential_id,
        address=address,
        origin=ticket.origin,
        ticket_id=ticket.id,
        token=ticket.token_name,
        operations=list(ticket.operations),
        parameter=ticket.parameter,
        ids=None if ticket.ids is None else texts(ticket.ids),
        expires_at=datetime.fromtimestamp(ticket.expires_at, UTC).isoformat(timespec="microseconds"),
    ).record()


def texts(ids: Sequence[int]) -> list[str]:
    """IDs as records hold them."""
    return list(map(str, ids))


def _ms(seconds: float | None) -> float | None:
    """Milliseconds to three decimals; a whole number where it is one, as RFC 8785 writes it."""
    if seconds is None:
        return None
    milliseconds = round(seconds * 1_000, 3)
    return int(milliseconds) if milliseconds.is_integer() else milliseconds
