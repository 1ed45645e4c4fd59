"""The closed set of what records tell of."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Name"]


class Name(StrEnum):
    """What a record tells of."""

    CHAIN_OPENED = "chain:opened"
    CALL_INTENT = "call:intent"
    CALL_OUTCOME = "call:outcome"
    CALL_REFUSED = "call:refused"
    REFUSALS_COUNTED = "refusals:counted"
    JOB_ACCEPTED = "job:accepted"
    JOB_CANCELLED = "job:cancelled"
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
    AUDIT_PRUNED = "audit:pruned"
