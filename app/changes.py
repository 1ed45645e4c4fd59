"""The records of changes to tokens and callers: of one form, whichever way a change came in. Of values and keys they hold nothing."""

from __future__ import annotations

from collections.abc import Mapping

from app.audit import Name, Record, administrative
from app.callers import CallerRow, HashedKey
from app.vault import TokenRow

__all__ = ["Changes"]

VAULT = "vault"
Trait = str | int | list[str] | None


class Changes:
    """What is put on record of each change, as it was and as it is.

    Args:
        by: who makes the changes, as `how:name`.
    """

    def __init__(self, by: str) -> None:
        self._by = by

    def token_added(self, row: TokenRow) -> Record:
        """There is a token more."""
        return administrative(Name.TOKEN_ADDED, self._by, row.token.name, after=_state(row))

    def token_changed(self, before: TokenRow, after: TokenRow) -> Record:
        """A token has other traits, and the value that it had."""
        return administrative(Name.TOKEN_CHANGED, self._by, after.token.name, before=_token_traits(before), after=_token_traits(after))

    def token_rotated(self, before: TokenRow, after: TokenRow) -> Record:
        """A token has another value."""
        return administrative(Name.TOKEN_ROTATED, self._by, after.token.name, before=before.fingerprint, after=after.fingerprint)

    def token_switched(self, before: TokenRow, after: TokenRow) -> Record:
        """A token's use is allowed or stopped."""
        name = Name.TOKEN_ENABLED if after.token.enabled else Name.TOKEN_DISABLED
        return administrative(name, self._by, after.token.name, before=before.token.enabled, after=after.token.enabled)

    def token_removed(self, row: TokenRow) -> Record:
        """A token is gone."""
        return administrative(Name.TOKEN_REMOVED, self._by, row.token.name, before=_state(row))

    def vault_resealed(self, key_id: str, count: int) -> Record:
        """So many rows came under a master key."""
        return administrative(Name.VAULT_RESEALED, self._by, VAULT, key_id=key_id, count=count)

    def caller_added(self, row: CallerRow, key_id: str | None = None) -> Record:
        """There is a caller more, with that key, if any."""
        key = {"credential_id": key_id, "expires_at": _end_of(row, key_id)} if key_id else {}
        return administrative(Name.CALLER_ADDED, self._by, row.name, **key, **_traits(row))

    def caller_changed(self, before: CallerRow, after: CallerRow) -> Record:
        """Some of a caller's traits are others; those alone are told."""
        old, now = _traits(before), _traits(after)
        changed = [member for member in now if old[member] != now[member]]
        return administrative(Name.CALLER_CHANGED, self._by, after.name, before=_texts_of(changed, old), after=_texts_of(changed, now))

    def caller_switched(self, row: CallerRow) -> Record:
        """A caller may call, or no more."""
        return administrative(Name.CALLER_ENABLED if row.enabled else Name.CALLER_DISABLED, self._by, row.name)

    def caller_granted(self, before: CallerRow, after: CallerRow) -> Record:
        """A caller may use a token."""
        return administrative(Name.CALLER_GRANTED, self._by, after.name, before=_grants(before), after=_grants(after))

    def caller_revoked(self, before: CallerRow, after: CallerRow) -> Record:
        """A caller may use a token no more."""
        return administrative(Name.CALLER_REVOKED, self._by, after.name, before=_grants(before), after=_grants(after))

    def caller_removed(self, row: CallerRow) -> Record:
        """A caller is gone."""
        return administrative(Name.CALLER_REMOVED, self._by, row.name)

    def key_rotated(self, before: CallerRow, after: CallerRow, key_id: str) -> Record:
        """A caller has that new key; the others end, each when it says."""
        key = {"credential_id": key_id, "expires_at": _end_of(after, key_id)}
        return administrative(Name.CALLER_KEY_ROTATED, self._by, after.name, **key, before=_key_texts(before), after=_key_texts(after))

    def key_added(self, caller: str, key: HashedKey) -> Record:
        """A caller has one key more."""
        return administrative(Name.CALLER_KEY_ADDED, self._by, caller, credential_id=key.id, expires_at=key.expires_at)

    def key_changed(self, caller: str, before: HashedKey, after: HashedKey) -> Record:
        """A caller's key ends at another time."""
        ends = {"before": before.expires_at, "after": after.expires_at}
        return administrative(Name.CALLER_KEY_CHANGED, self._by, caller, credential_id=after.id, **ends)

    def key_revoked(self, caller: str, key: HashedKey) -> Record:
        """A caller has one key less."""
        return administrative(Name.CALLER_KEY_REVOKED, self._by, caller, credential_id=key.id)


def _token_traits(row: TokenRow) -> dict[str, str | int]:
    token = row.token
    return {"kind": token.kind.value, "rate": token.rate, "burst": token.burst.value, "pacing": token.pacing.value}


def _state(row: TokenRow) -> dict[str, str | int]:
    """All that is on record of a token that comes or goes; of its value only the fingerprint."""
    return _token_traits(row) | {"enabled": row.token.enabled, "fingerprint": row.fingerprint}


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
        "claims": [f"{name}={value}" for name, value in sorted(row.claims.items())] or None,
    }


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
