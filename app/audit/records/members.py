"""The members that records share, each with its form and what it means; the published schema says the same.

IDs of the upstream are strings, since canonical JSON (RFC 8785) can't hold 64-bit integers; waits are in milliseconds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

__all__ = [
    "Address",
    "At",
    "Attempts",
    "By",
    "CallId",
    "CallIds",
    "CallerName",
    "Chain",
    "ChainHead",
    "Code",
    "Count",
    "CredentialId",
    "Ends",
    "Ids",
    "LinkedIds",
    "OperationId",
    "Operations",
    "OriginName",
    "ParameterName",
    "QueueMs",
    "Reason",
    "RecordId",
    "RequestId",
    "SendId",
    "Seq",
    "Subject",
    "TokenName",
    "TokenState",
    "TokenTraits",
    "TraceId",
    "Uncertain",
    "UpstreamMs",
    "UpstreamStatus",
]

UUID7 = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
MICROSECONDS = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00$"
CODE = r"^[a-z][a-z0-9-]*$"
ID = r"^[1-9][0-9]{0,18}$"
WHOLE = r"^-?[0-9]+$"

RecordId = Annotated[str, Field(pattern=UUID7, description="The record's own ID, a UUIDv7.")]
At = Annotated[str, Field(pattern=MICROSECONDS, description="When it was told, in UTC, to the microsecond.")]
RequestId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$", description="The ID of the request, as its answer had it.")]
TraceId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="The trace that the request belongs to (W3C Trace Context).")]
CallerName = Annotated[str, Field(description="The caller's name.")]
CredentialId = Annotated[
    str, Field(description="What the caller proved itself with: the ID of a key, or `jwt:` and its subject, or `ticket:` and its ID.")
]
Address = Annotated[str, Field(description="The address that the request came from, as the trusted proxies tell it.")]
OriginName = Annotated[str, Field(description="The origin of the page that the request came from.")]
CallId = Annotated[str, Field(pattern=UUID7, description="The call's ID.")]
CallIds = Annotated[list[Annotated[str, Field(pattern=UUID7)]], Field(min_length=1, description="The IDs of the calls that it carries.")]
OperationId = Annotated[str, Field(description="The operation of the catalogue.")]
ParameterName = Annotated[str, Field(description="The parameter that holds the IDs.")]
Ids = Annotated[list[Annotated[str, Field(pattern=ID)]], Field(description="The IDs that are asked for, each once.")]
LinkedIds = Annotated[list[Annotated[str, Field(pattern=WHOLE)]], Field(description="The IDs that the upstream's answer lists.")]
TokenName = Annotated[str, Field(description="The token's name.")]
Code = Annotated[str, Field(pattern=CODE, description="How it ended: `ok`, a problem's code, or one that the record's own text names.")]
Reason = Annotated[str, Field(description="Why, in a sentence that names nothing secret.")]
SendId = Annotated[str, Field(description="The ID of the send, which several calls may share; of a call's last where it had several.")]
Attempts = Annotated[int, Field(ge=0, description="How often the call was sent.")]
QueueMs = Annotated[
    float, Field(ge=0, description="Milliseconds from its arrival to its last send's turn, or to its end where it had none.")
]
UpstreamMs = Annotated[float, Field(ge=0, description="Milliseconds from that turn to the call's end.")]
UpstreamStatus = Annotated[int, Field(description="The HTTP status that the upstream answered.")]
Uncertain = Annotated[bool, Field(description="Whether the upstream may have done the work, or part of it, though no answer says so.")]
By = Annotated[str, Field(description="Who did it, as `how:name`: `command:`, `control:`, `caller:`, `configuration:` or `gateway:`.")]
Subject = Annotated[str, Field(description="What was changed: a token, a caller, or the vault.")]
Operations = Annotated[list[str], Field(description="Operations of the catalogue.")]
Ends = Annotated[str, Field(description="When it ends, in UTC (ISO 8601).")]
Count = Annotated[int, Field(ge=0, description="How many.")]
Chain = Annotated[str, Field(description="A chain: the UUIDv7 of the process that writes it, or `administration`.")]
Seq = Annotated[int, Field(ge=0, description="A place in a chain, from 1.")]


class ChainHead(TypedDict):
    """Where a chain stands."""

    chain: Chain
    seq: Seq
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="The hash of the record in that place, in hex.")]


class TokenTraits(TypedDict):
    """How a token is used."""

    kind: Annotated[str, Field(description="`account`, `source` or `channel`.")]
    rate: Annotated[int, Field(ge=1, description="Requests a second.")]
    burst: Annotated[str, Field(description="`window` or `spaced`.")]
    pacing: Annotated[str, Field(description="`learned` or `proven`.")]


class TokenState(TokenTraits):
    """A token as it comes or goes; of its value only what tells two values apart."""

    enabled: Annotated[bool, Field(description="Whether it may be used.")]
    fingerprint: Annotated[str, Field(description="Tells two values apart and says nothing of either.")]
