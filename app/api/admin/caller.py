"""A caller as the operators' routes show it: its keys without their secrets."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field

from app.callers import CallerRow, GatewayKey, GrantAsked, KeyRow

__all__ = ["Caller", "CallerName", "KeyedCaller"]

CallerName = Annotated[str, Path(description="The caller's name.")]


class Granted(BaseModel):
    """A token that the caller may use."""

    token: str = Field(description="The token's name.")
    operations: list[str] | None = Field(description="For which operations; null: all.")

    @classmethod
    def of(cls, asked: GrantAsked) -> Granted:
        """As it is on file."""
        return cls(token=asked.token, operations=None if asked.operations is None else list(asked.operations))


class Key(BaseModel):
    """A gateway key, without its secret."""

    id: str = Field(description="Stands in the key itself and in records.")
    created: str = Field(description="When it was made, UTC.")
    expires: str | None = Field(description="When it ends, UTC; null: not by itself.")
    last_used: str | None = Field(description="When it was used last, UTC; null: never yet.")

    @classmethod
    def of(cls, row: KeyRow) -> Key:
        """The key of a row."""
        return cls(id=row.id, created=row.created_at, expires=row.expires_at, last_used=row.last_used_at)


class Caller(BaseModel):
    """A service or frontend that may call the gateway."""

    name: str = Field(description="The caller's name.")
    id: str = Field(description="Stays the same for as long as the caller is there.")
    enabled: bool = Field(description="Whether it may call.")
    role: str | None = Field(description="What it may do with the gateway itself: `auditor` reads, `admin` also changes; null: nothing.")
    weight: int = Field(description="Its share of a token's turns, against other callers'.")
    rate: str | None = Field(description="The gateway's own limit on it, such as `100/second`; null: the gateway's default.")
    default_token: str | None = Field(description="The token for calls that name none; null: none.")
    grants: list[Granted] = Field(description="The tokens that it may use.")
    networks: list[str] = Field(description="Where it may call from; empty: everywhere.")
    origins: list[str] = Field(description="The origins that its pages may have; empty: the gateway's own list.")
    claims: dict[str, str] = Field(description="What a JWT of the identity provider must hold to be its own; empty: none is.")
    keys: list[Key] = Field(description="Its keys, without their secrets.")
    created: str = Field(description="When it was added, UTC.")
    declared: bool = Field(description="Whether it stands in the configuration file, and is changed there only.")

    @classmethod
    def of(cls, row: CallerRow) -> Caller:
        """The caller of a row."""
        return cls(**_members(row))


class KeyedCaller(Caller):
    """A caller with a new key, which is shown only now."""

    key: str = Field(description="The key, shown only now.")

    @classmethod
    def with_key(cls, row: CallerRow, key: GatewayKey) -> KeyedCaller:
        """The caller of a row, and its new key."""
        return cls(**_members(row), key=key.reveal())


def _members(row: CallerRow) -> dict[str, object]:
    return {
        "name": row.name,
        "id": row.id,
        "enabled": row.enabled,
        "role": row.role,
        "weight": row.weight,
        "rate": row.rate,
        "default_token": row.default_token,
        "grants": [Granted.of(one) for one in row.grants],
        "networks": list(row.networks),
        "origins": list(row.origins),
        "claims": dict(row.claims),
        "keys": [Key.of(one) for one in row.keys],
        "created": row.created_at,
        "declared": row.declared,
    }
