"""The records: a closed set of names, each with its members. None ever holds a secret.

IDs are strings, since canonical JSON (RFC 8785) can't hold 64-bit integers; waits are in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from app.domain import Call, Caller, Linked, Outcome, PageTicket, Send, new_id, utc_now
from app.errors import GatewayError

__all__ = [
    "Name",
    "Record",
    "administrative",
    "call_intent",
    "call_outcome",
    "call_refused",
    "refusals_counted",
    "send_intent",
    "send_outcome",
    "ticket_issued",
    "token_echoed",
]

Value = str | int | float | bool | None | list[str] | dict[str, str | int]


class Name(StrEnum):
    """What a record tells of."""

    CALL_INTENT = "call:intent"
    CALL_OUTCOME = "call:outcome"
    CALL_REFUSED = "call:refused"
    REFUSALS_COUNTED = "refusals:counted"
    SEND_INTENT = "send:intent"
    SEND_OUTCOME = "send:outcome"
    TOKEN_ECHOED = "token:echoed"
    TOKEN_ADDED = "token:added"
    TOKEN_CHANGED = "token:changed"
    TOKEN_ROTATED = "token:rotated"
    TOKEN_ENABLED = "token:enabled"
    TOKEN_DISABLED = "token:disabled"
    TOKEN_TESTED = "token:tested"
    TOKEN_RESUMED = "token:resumed"
    TOKEN_REMOVED = "token:removed"
    VAULT_RESEALED = "vault:resealed"
    TICKET_ISSUED = "ticket:issued"
    CALLER_ADDED = "caller:added"
    CALLER_CHANGED = "caller:changed"
    CALLER_ENABLED = "caller:enabled"
    CALLER_DISABLED = "caller:disabled"
    CALLER_KEY_ADDED = "caller:key-added"
    CALLER_KEY_CHANGED = "caller:key-changed"
    CALLER_KEY_REVOKED = "caller:key-revoked"
    CALLER_KEY_ROTATED = "caller:key-rotated"
    CALLER_GRANTED = "caller:granted"
    CALLER_REVOKED = "caller:revoked"
    CALLER_REMOVED = "caller:removed"


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its name, and the canonical JSON that is stored."""

    name: Name
    body: str


def call_intent(call: Call) -> Record:
    """A call was taken in and will be sent when its turn comes."""
    return _record(Name.CALL_INTENT, **_who(call.request_id, call.caller, call.address, call.origin), **_what(call))


def send_intent(send: Send) -> Record:
    """The next thing that happens is a write to the upstream, for all the calls named."""
    return _record(
        Name.SEND_INTENT,
        **_carried(send),
        attempt=send.attempt,
        operation=send.operation.id,
        parameter=send.parameter.name or None,
        ids=_texts(send.ids) if send.operation.parameters else None,
        test=send.calls[0].test or None,
    )


def send_outcome(send: Send, outcome: Outcome | None, *, written: bool) -> Record:
    """What the upstream did with one send; the callers may have left before.

    Where no outcome is known it is `not-sent`, or `unknown` if the request had left.
    """
    unknown = "unknown" if written else "not-sent"
    return _record(
        Name.SEND_OUTCOME,
        **_carried(send),
        result=type(outcome).__name__.lower() if outcome else unknown,
        written=written,
        upstream_status=outcome.status if outcome else None,
        linked_ids=_texts(outcome.order_ids) if isinstance(outcome, Linked) else None,
        uncertain=outcome.uncertain if outcome else written,
    )


def token_echoed(send: Send, finds: int) -> Record:
    """The upstream's answer to a send held the token's value so many times, in its headers and its body; it was taken out of both."""
    return _record(Name.TOKEN_ECHOED, **_carried(send), finds=finds)


def call_outcome(  # noqa: PLR0913 - a record's members
    call: Call,
    *,
    code: str,
    linked: Linked | None = None,
    send_id: str | None = None,
    attempts: int = 0,
    queued: float | None = None,
    upstream: float | None = None,
    uncertain: bool = False,
) -> Record:
    """How a call that was taken in ended for its caller; `code` is `ok`, a problem's, or `caller-gone`. Times in seconds."""
    return _record(
        Name.CALL_OUTCOME,
        **_who(call.request_id, call.caller, call.address, call.origin),
        **_what(call),
        code=code,
        send_id=send_id,
        attempts=attempts,
        queue_ms=_ms(queued),
        upstream_ms=_ms(upstream),
        linked_ids=_texts(linked.order_ids) if linked else None,
        uncertain=uncertain,
    )


def call_refused(  # noqa: PLR0913 - a record's members
    *, request_id: str, caller: Caller, operation: str, error: GatewayError, address: str | None, origin: str | None, token: str | None
) -> Record:
    """A known caller's call was refused here; nothing was sent."""
    who = _who(request_id, caller, address, origin)
    return _record(Name.CALL_REFUSED, **who, operation=operation, code=error.code, reason=error.detail, token=token)


def refusals_counted(*, address: str, caller: str | None, code: str, count: int) -> Record:
    """So many requests from one address were refused with one code since the last such record, before they became calls."""
    return _record(Name.REFUSALS_COUNTED, address=address, caller=caller, code=code, count=count)


def ticket_issued(ticket: PageTicket, *, request_id: str, caller: Caller, address: str | None) -> Record:
    """A ticket is given out; `origin` is that of the page which it is good on."""
    return _record(
        Name.TICKET_ISSUED,
        **_who(request_id, caller, address, ticket.origin),
        ticket_id=ticket.id,
        token=ticket.token_name,
        operations=list(ticket.operations),
        parameter=ticket.parameter,
        ids=None if ticket.ids is None else _texts(ticket.ids),
        expires_at=datetime.fromtimestamp(ticket.expires_at, UTC).isoformat(timespec="microseconds"),
    )


def administrative(name: Name, by: str, subject: str, **members: Value) -> Record:
    """Somebody changed a token or a caller; `by` says who, as `how:name`."""
    return _record(name, by=by, subject=subject, **members)


def _record(name: Name, **members: Value) -> Record:
    kept = {key: value for key, value in members.items() if value is not None}
    body = {"id": new_id(), "at": utc_now(), "name": name.value, **kept}
    # Sorted keys and no blanks: for strings, whole numbers and lists of them that is RFC 8785's form.
    return Record(name, orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode())


def _who(request_id: str, caller: Caller, address: str | None, origin: str | None) -> dict[str, Value]:
    return {
        "request_id": request_id,
        "caller": caller.name,
        "credential_id": caller.credential_id,
        "address": address,
        "origin": origin,
    }


def _carried(send: Send) -> dict[str, Value]:
    """A send and what it carries; `request_id`, `call_id` and `caller` are those of the call whose turn it is."""
    return {
        "send_id": send.id,
        "token": send.token.name,
        "request_id": send.calls[0].request_id,
        "call_id": send.calls[0].id,
        "caller": send.calls[0].caller.name,
        "call_ids": [call.id for call in send.calls],
    }


def _what(call: Call) -> dict[str, Value]:
    return {
        "call_id": call.id,
        "operation": call.operation.id,
        "parameter": call.parameter.name,
        "ids": _texts(call.ids),
        "token": call.token.name,
    }


def _texts(ids: tuple[int, ...]) -> list[str]:
    return [str(one) for one in ids]


def _ms(seconds: float | None) -> Value:
    """Milliseconds to three decimals; a whole number where it is one, as RFC 8785 writes it."""
    if seconds is None:
        return None
    milliseconds = round(seconds * 1_000, 3)
    return int(milliseconds) if milliseconds.is_integer() else milliseconds
