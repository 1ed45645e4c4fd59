"""The records of changes that operators make. Of values and keys they hold nothing but what tells them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.audit.records.members import (
    Address,
    By,
    Code,
    Count,
    CredentialId,
    Ends,
    Operations,
    RequestId,
    Subject,
    TokenName,
    TokenState,
    TokenTraits,
    TraceId,
)
from app.audit.records.names import Name
from app.audit.records.record import Told
from app.domain import Actor

__all__ = [
    "CallerAdded",
    "CallerChanged",
    "CallerGrants",
    "CallerNoted",
    "Change",
    "ChangedBy",
    "KeyAdded",
    "KeyChanged",
    "KeyRevoked",
    "KeyRotated",
    "TokenAdded",
    "TokenChanged",
    "TokenRemoved",
    "TokenResumed",
    "TokenRotated",
    "TokenSwitched",
    "TokenTested",
    "VaultResealed",
    "changed_by",
]

KeyId = Annotated[str, Field(description="The key's ID, which is no part of its secret.")]
Fingerprint = Annotated[str, Field(description="Tells two values apart and says nothing of either.")]
Traits = Annotated[list[str], Field(description="The traits that changed, each as `trait=value`.")]
Grants = Annotated[list[str], Field(description="Its grants, each as `token`, or `token:operation,…` where only these are granted.")]
Keys = Annotated[list[str], Field(description="Its keys by their IDs, each with its end, if it has one.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Told):
    """Somebody changed something; with a request, where it has one."""

    by: By
    by_credential_id: CredentialId | None = None
    request_id: RequestId | None = None
    trace_id: TraceId | None = None
    address: Address | None = None
    subject: Subject


class ChangedBy(TypedDict):
    """What a change's record has of who made it."""

    by: str
    by_credential_id: str | None
    request_id: str | None
    trace_id: str | None
    address: str | None


def changed_by(actor: Actor) -> ChangedBy:
    """What a change's record has of who made it."""
    return {
        "by": actor.by,
        "by_credential_id": actor.credential_id,
        "request_id": actor.request_id,
        "trace_id": actor.trace_id,
        "address": actor.address,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAdded(Change):
    """There is a token more."""

    name: Literal[Name.TOKEN_ADDED] = Name.TOKEN_ADDED
    after: Annotated[TokenState, Field(description="What it is.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChanged(Change):
    """A token has other traits, and the value that it had."""

    name: Literal[Name.TOKEN_CHANGED] = Name.TOKEN_CHANGED
    before: Annotated[TokenTraits, Field(description="What it was.")]
    after: Annotated[TokenTraits, Field(description="What it is.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRotated(Change):
    """A token has another value."""

    name: Literal[Name.TOKEN_ROTATED] = Name.TOKEN_ROTATED
    before: Fingerprint
    after: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSwitched(Change):
    """A token's use is allowed or stopped."""

    name: Literal[Name.TOKEN_ENABLED, Name.TOKEN_DISABLED]
    before: Annotated[bool, Field(description="Whether it could be used.")]
    after: Annotated[bool, Field(description="Whether it can be used.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTested(Change):
    """A token was tested; the sends of the test are on record themselves."""

    name: Literal[Name.TOKEN_TESTED] = Name.TOKEN_TESTED
    token: TokenName
    probes: Annotated[list[str], Field(description="What was asked and answered, in words.")]
    seems: Annotated[str, Field(description="The kind that it seems to be of, if the answers tell.")] | None = None
    code: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResumed(Change):
    """The breakers of a token are about to be closed."""

    name: Literal[Name.TOKEN_RESUMED] = Name.TOKEN_RESUMED
    operations: Annotated[Operations, Field(description="The operations whose calls were held back.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRemoved(Change):
    """A token is gone."""

    name: Literal[Name.TOKEN_REMOVED] = Name.TOKEN_REMOVED
    before: Annotated[TokenState, Field(description="What it was.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultResealed(Change):
    """Some of what is sealed came under the first master key."""

    name: Literal[Name.VAULT_RESEALED] = Name.VAULT_RESEALED
    key_id: Annotated[str, Field(description="The ID of the master key.")]
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerAdded(Change):
    """There is a caller more, with that key, if any."""

    name: Literal[Name.CALLER_ADDED] = Name.CALLER_ADDED
    credential_id: KeyId | None = None
    expires_at: Ends | None = None
    role: Annotated[str, Field(description="What it may do with the gateway itself: `admin` or `auditor`.")] | None = None
    weight: Annotated[int, Field(ge=1, description="How much its calls weigh against others'.")]
    rate: Annotated[str, Field(description="The gateway's limit on it, such as `100/second`; absent: the gateway's default.")] | None = None
    grants: Grants
    default_token: Annotated[TokenName, Field(description="The token that is used where a call names none.")] | None = None
    networks: Annotated[list[str], Field(description="Where it may call from; absent: everywhere.")] | None = None
    origins: Annotated[list[str], Field(description="The origins of its pages; absent: the gateway's own list.")] | None = None
    claims: Annotated[list[str], Field(description="What a JWT must hold to be its, each as `name=value`.")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerChanged(Change):
    """Some of a caller's traits are others; those alone are told."""

    name: Literal[Name.CALLER_CHANGED] = Name.CALLER_CHANGED
    before: Traits
    after: Traits


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerNoted(Change):
    """A caller may call, may call no more, or is gone."""

    name: Literal[Name.CALLER_ENABLED, Name.CALLER_DISABLED, Name.CALLER_REMOVED]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerGrants(Change):
    """A caller may use a token, or may use it no more."""

    name: Literal[Name.CALLER_GRANTED, Name.CALLER_REVOKED]
    before: Grants
    after: Grants


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAdded(Change):
    """A caller has one key more."""

    name: Literal[Name.CALLER_KEY_ADDED] = Name.CALLER_KEY_ADDED
    credential_id: KeyId
    expires_at: Ends | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotated(Change):
    """A caller has a new key; the others end, each when it says."""

    name: Literal[Name.CALLER_KEY_ROTATED] = Name.CALLER_KEY_ROTATED
    credential_id: KeyId
    expires_at: Ends | None = None
    before: Keys
    after: Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged(Change):
    """A caller's key ends at another time; absent: never."""

    name: Literal[Name.CALLER_KEY_CHANGED] = Name.CALLER_KEY_CHANGED
    credential_id: KeyId
    before: Ends | None = None
    after: Ends | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked(Change):
    """A caller has one key less."""

    name: Literal[Name.CALLER_KEY_REVOKED] = Name.CALLER_KEY_REVOKED
    credential_id: KeyId
