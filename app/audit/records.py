"""The records: a closed set of names, each with its members. None ever holds a secret.

IDs are strings, since canonical JSON (RFC 8785) can't hold 64-bit integers; waits are in milliseconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from app.domain import Call, Caller, Linked, Outcome, PageTicket, Send, new_id, utc_now
from app.errors import GatewayError

__all__ = [
    "Name",
    "Record",
    "administrative",
    "call_intent",
    "call_outcome",
    "call_refused",
    "chain_opened",
    "refusals_counted",
    "send_intent",
    "send_outcome",
    "ticket_issued",
    "token_echoed",
]

Value = str | int | float | bool | None | list[str] | dict[str, str | int] | list[dict[str, str | int]]


class Name(StrEnum):
    """What a record tells of."""

    CHAIN_OPENED = "chain:opened"
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
    """One record: its name and its members, `id`, `at` and `name` among them. Its place in its chain is known when it is written."""

    name: Name
    members: Mapping[str, Value]

    @property
    def id(self) -> str:
        """Its UUIDv7."""
        return str(self.members["id"])


def chain_opened(heads: list[dict[str, str | int]]) -> Record:
    """A chain begins; `heads` are those of the chains that are known, each with its `chain`, `seq` and `hash`."""
    return _record(Name.CHAIN_OPENED, {"process": os.getpid(), "host": socket.gethostname(), "heads": heads})


def call_intent(call: Call) -> Record:
    """A call was taken in and will be sent when its turn comes."""
    return _record(Name.CALL_INTENT, _accepted(call))


def send_intent(send: Send) -> Record:
    """The next thing that happens is a write to the upstream, for all the calls named."""
    members = _carried(send)
    members["attempt"] = send.attempt
    members["operation"] = send.operation.id
    members["parameter"] = send.parameter.name or None
    members["ids"] = _texts(send.ids) if send.operation.parameters else None
    members["test"] = send.calls[0].test or None
    return _record(Name.SEND_INTENT, members)


def send_outcome(send: Send, outcome: Outcome | None, *, written: bool) -> Record:
    """What the upstream did with one send; the callers may have left before.

    Where no outcome is known it is `not-sent`, or `unknown` if the request had left.
    """
    members = _carried(send)
    members["written"] = written
    if outcome:
        members["result"] = type(outcome).__name__.lower()
        members["upstream_status"] = outcome.status
        members["linked_ids"] = _texts(outcome.order_ids) if isinstance(outcome, Linked) else None
        members["uncertain"] = outcome.uncertain
    else:
        members["result"] = "unknown" if written else "not-sent"
        members["uncertain"] = written
    return _record(Name.SEND_OUTCOME, members)


def token_echoed(send: Send, finds: int) -> Record:
    """The upstream's answer to a send held the token's value so many times, in its headers and its body; it was taken out of both."""
    return _record(Name.TOKEN_ECHOED, {**_carried(send), "finds": finds})


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
    members = _accepted(call)
    members["code"] = code
    members["send_id"] = send_id
    members["attempts"] = attempts
    members["queue_ms"] = _ms(queued)
    members["upstream_ms"] = _ms(upstream)
    members["linked_ids"] = _texts(linked.order_ids) if linked else None
    members["uncertain"] = uncertain
    return _record(Name.CALL_OUTCOME, members)


def call_refused(  # noqa: PLR0913 - a record's members
    *, request_id: str, caller: Caller, operation: str, error: GatewayError, address: str | None, origin: str | None, token: str | None
) -> Record:
    """A known caller's call was refused here; nothing was sent."""
    members = _who(request_id, caller, address, origin)
    members |= {"operation": operation, "code": error.code, "reason": error.detail, "token": token}
    return _record(Name.CALL_REFUSED, members)


def refusals_counted(*, address: str, caller: str | None, code: str, count: int) -> Record:
    """So many requests from one address were refused with one code since the last such record, before they became calls."""
    return _record(Name.REFUSALS_COUNTED, {"address": address, "caller": caller, "code": code, "count": count})


def ticket_issued(ticket: PageTicket, *, request_id: str, caller: Caller, address: str | None) -> Record:
    """A ticket is given out; `origin` is that of the page which it is good on."""
    members = _who(request_id, caller, address, ticket.origin)
    members["ticket_id"] = ticket.id
    members["token"] = ticket.token_name
    members["operations"] = list(ticket.operations)
    members["parameter"] = ticket.parameter
    members["ids"] = None if ticket.ids is None else _texts(ticket.ids)
    members["expires_at"] = datetime.fromtimestamp(ticket.expires_at, UTC).isoformat(timespec="microseconds")
    return _record(Name.TICKET_ISSUED, members)


def administrative(name: Name, by: str, subject: str, **members: Value) -> Record:
    """Somebody changed a token or a caller; `by` says who, as `how:name`."""
    return _record(name, {"by": by, "subject": subject, **members})


def _record(name: Name, members: dict[str, Value]) -> Record:
    """The record of these members, but for those that are None."""
    body = {key: value for key, value in members.items() if value is not None}
    body["id"] = new_id()
    body["at"] = utc_now()
    body["name"] = name
    return Record(name, body)


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
    first = send.calls[0]
    return {
        "send_id": send.id,
        "token": first.token.name,
        "request_id": first.request_id,
        "call_id": first.id,
        "caller": first.caller.name,
        "call_ids": [call.id for call in send.calls],
    }


def _accepted(call: Call) -> dict[str, Value]:
    """Whose call it is, and what it asks for."""
    return {
        "request_id": call.request_id,
        "caller": call.caller.name,
        "credential_id": call.caller.credential_id,
        "address": call.address,
        "origin": call.origin,
        "call_id": call.id,
        "operation": call.operation.id,
        "parameter": call.parameter.name,
        "ids": _texts(call.ids),
        "token": call.token.name,
    }


def _texts(ids: tuple[int, ...]) -> list[str]:
    return list(map(str, ids))


def _ms(seconds: float | None) -> Value:
    """Milliseconds to three decimals; a whole number where it is one, as RFC 8785 writes it."""
    if seconds is None:
        return None
    milliseconds = round(seconds * 1_000, 3)
    return int(milliseconds) if milliseconds.is_integer() else milliseconds
