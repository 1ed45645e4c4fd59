"""The records of changes to tokens and callers: of one form, whichever way a change came in. Of values and keys they hold nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from app.audit import Name, Record
from app.audit.records import (
    CallerAdded,
    CallerChanged,
    CallerGrants,
    CallerNoted,
    KeyAdded,
    KeyChanged,
    KeyRevoked,
    KeyRotated,
    TokenAdded,
    TokenChanged,
    TokenRemoved,
    TokenRotated,
    TokenState,
    TokenSwitched,
    TokenTraits,
    VaultResealed,
    changed_by,
)
from app.callers import CallerRow, HashedKey
from app.domain import Actor
from app.vault import TokenRow

__all__ = ["Changes"]

VAULT = "vault"
Trait = str | int | list[str] | None


class Changes:
    """What is put on record of each change, as it was and as it is.

    Args:
        by: who makes the changes, as `how:name`, or with the request that they come with.
    """

    def __init__(self, by: Actor | str) -> None:
        self._by = changed_by(by if isinstance(by, Actor) else Actor(by=by))

    def token_added(self, row: TokenRow) -> Record:
        """There is a token more."""
        return TokenAdded(**self._by, subject=row.token.name, after=_state(row)).record()

    def token_changed(self, before: TokenRow, after: TokenRow) -> Record:
        """A token has other traits, and the value that it had."""
        traits = _token_traits(before), _token_traits(after)
        return TokenChanged(**self._by, subject=after.token.name, before=traits[0], after=traits[1]).record()

    def token_rotated(self, before: TokenRow, after: TokenRow) -> Record:
        """A token has another value."""
        return TokenRotated(**self._by, subject=after.token.name, before=before.fingerprint, after=after.fingerprint).record()

    def token_switched(self, before: TokenRow, after: TokenRow) -> Record:
        """A token's use is allowed or stopped."""
        was, is_now = before.token.enabled, after.token.enabled
        name: Literal[Name.TOKEN_ENABLED, Name.TOKEN_DISABLED] = Name.TOKEN_ENABLED if is_now else Name.TOKEN_DISABLED
        return TokenSwitched(name=name, **self._by, subject=after.token.name, before=was, after=is_now).record()

    def token_removed(self, row: TokenRow) -> Record:
        """A token is gone."""
        return TokenRemoved(**self._by, subject=row.token.name, before=_state(row)).record()

    def vault_resealed(self, key_id: str, count: int) -> Record:
        """So many rows came under a master key."""
        return VaultResealed(**self._by, subject=VAULT, key_id=key_id, count=count).record()

    def caller_added(self, row: CallerRow, key_id: str | None = None) -> Record:
        """There is a caller more, with that key, if any."""
        return CallerAdded(
            **self._by,
            subject=row.name,
            credential_id=key_id,
            expires_at=_end_of(row, key_id) if key_id else None,
            role=row.role,
            weight=row.weight,
            rate=row.rate,
            grants=_grants(row),
            default_token=row.default_token,
            networks=list(row.networks) or None,
            origins=list(row.origins) or None,
            claims=_claims(row) or None,
        ).record()

    def caller_changed(self, before: CallerRow, after: CallerRow) -> Record:
        """Some of a caller's traits are others; those alone are told."""
        old, now = _traits(before), _traits(after)
        changed = [member for member in now if old[member] != now[member]]
        return CallerChanged(**self._by, subject=after.name, before=_texts_of(changed, old), after=_texts_of(changed, now)).record()

    def caller_switched(self, row: CallerRow) -> Record:
        """A caller may call, or no more."""
        return CallerNoted(name=Name.CALLER_ENABLED if row.enabled else Name.CALLER_DISABLED, **self._by, subject=row.name).record()

    def caller_granted(self, before: CallerRow, after: CallerRow) -> Record:
        """A caller may use a token."""
        return self._granted(Name.CALLER_GRANTED, before, after)

    def caller_revoked(self, before: CallerRow, after: CallerRow) -> Record:
        """A caller may use a token no more."""
        return self._granted(Name.CALLER_REVOKED, before, after)

    def caller_removed(self, row: CallerRow) -> Record:
        """A caller is gone."""
        return CallerNoted(name=Name.CALLER_REMOVED, **self._by, subject=row.name).record()

    def key_rotated(self, before: CallerRow, after: CallerRow, key_id: str) -> Record:
        """A caller has that new key; the others end, each when it says."""
        return KeyRotated(
            **self._by,
            subject=after.name,
            credential_id=key_id,
            expires_at=_end_of(after, key_id),
            before=_key_texts(before),
            after=_key_texts(after),
        ).record()

    def key_added(self, caller: str, key: HashedKey) -> Record:
        """A caller has one key more."""
        return KeyAdded(**self._by, subject=caller, credential_id=key.id, expires_at=key.expires_at).record()

    def key_changed(self, caller: str, before: HashedKey, after: HashedKey) -> Record:
        """A caller's key ends at another time."""
        ends = before.expires_at, after.expires_at
        return KeyChanged(**self._by, subject=caller, credential_id=after.id, before=ends[0], after=ends[1]).record()

    def key_revoked(self, caller: str, key: HashedKey) -> Record:
        """A caller has one key less."""
        return KeyRevoked(**self._by, subject=caller, credential_id=key.id).record()

    def _granted(self, name: Literal[Name.CALLER_GRANTED, Name.CALLER_REVOKED], before: CallerRow, after: CallerRow) -> Record:
        return CallerGrants(name=name, **self._by, subject=after.name, before=_grants(before), after=_grants(after)).record()


def _token_traits(row: TokenRow) -> TokenTraits:
    token = row.token
    return {"kind": token.kind.value, "rate": token.rate, "burst": token.burst.value, "pacing": token.pacing.value}


def _state(row: TokenRow) -> TokenState:
    """All that is on record of a token that comes or goes; of its value only the fingerprint."""
    return {**_token_traits(row), "enabled": row.token.enabled, "fingerprint": row.fingerprint}


def _traits(row: CallerRow) -> dict[str, Trait]:
    """What a caller is made of, without what it hasn't."""
    return {
        "role": row.role,
        "weight": row.weight,
        "rate": row.rate,
        "grants": _grants(row),
        "default_token": row.default_token,
        "networks": list(row.networks) or None,
        "origins": list(row.origins) or None,
        "claims": _claims(row) or None,
    }


def _claims(row: CallerRow) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(row.claims.items())]


def _texts_of(members: list[str], traits: Mapping[str, Trait]) -> list[str]:
    return [f"{member}={_text(traits[member])}" for member in members]


def _text(trait: Trait) -> str:
    return " ".join(trait) if isinstance(trait, list) else str(trait or "")


def _grants(row: CallerRow) -> list[str]:
    return [str(grant) for grant in row.grants]


def _key_texts(row: CallerRow) -> list[str]:
    """A caller's keys by their IDs, each with its end, if it has one."""
    return [f"{key.id} until {key.expires_at}" if key.expires_at else key.id for key in row.keys]


def _end_of(row: CallerRow, key_id: str) -> str | None:
    return next(one.expires_at for one in row.keys if one.id == key_id)
