"""Changes to tokens and callers: each in one transaction with its audit record, the same for every way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Name, administrative, append
from app.callers import CallerRow, CallerStore, GatewayKey, GrantAsked, NewCaller
from app.domain import TokenValue
from app.errors import Conflict, ParameterInvalid
from app.storage import reading, writing
from app.vault import Keyring, KeyUse, NewToken, Resealing, TokenChange, TokenRow, TokenStore

__all__ = ["Administration", "Resealed"]

VAULT = "vault"


@dataclass(frozen=True, slots=True)
class Resealed:
    """What came under the master key `key_id`: so many rows now, so many before."""

    key_id: str
    count: int
    already: int


class Administration:
    """What operators do.

    Args:
        engine: the database.
        keyring: seals the tokens' values.
        by: who makes the changes, as `how:name`, for the record.
    """

    def __init__(self, engine: AsyncEngine, keyring: Keyring, by: str) -> None:
        self._engine = engine
        self._tokens = TokenStore(keyring)
        self._callers = CallerStore()
        self._keyring = keyring
        self._by = by

    async def tokens(self) -> list[TokenRow]:
        """Every token, by name."""
        async with reading(self._engine) as connection:
            return await self._tokens.all(connection)

    async def token(self, name: str) -> TokenRow:
        """One token.

        Raises:
            NotFound
        """
        async with reading(self._engine) as connection:
            return await self._tokens.show(connection, name)

    async def add_token(self, new: NewToken) -> TokenRow:
        """Add a token.

        Raises:
            ParameterInvalid, Conflict
        """
        async with writing(self._engine) as connection:
            row = await self._tokens.add(connection, new)
            await append(connection, [administrative(Name.TOKEN_ADDED, self._by, new.name, after=_token_state(row))])
            return row

    async def change_token(self, name: str, change: TokenChange) -> TokenRow:
        """Give a token other traits; its value, and what waits for it, stay.

        Raises:
            NotFound, Conflict
            ParameterInvalid: the rate isn't one, or there is nothing to change.
        """
        if change.empty:
            message = "there is nothing to change: give a kind, a rate, a burst or a pacing"
            raise ParameterInvalid(message)
        async with writing(self._engine) as connection:
            before = _changeable(await self._tokens.show(connection, name), name)
            row = await self._tokens.change(connection, change.of(before.token))
            members = {"before": _token_traits(before), "after": _token_traits(row)}
            await append(connection, [administrative(Name.TOKEN_CHANGED, self._by, name, **members)])
            return row

    async def rotate_token(self, name: str, value: TokenValue) -> TokenRow:
        """Put a new value in place of the old one.

        Raises:
            NotFound, ParameterInvalid, Conflict
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._tokens.show(connection, name), name)
            row = await self._tokens.rotate(connection, name, value)
            members = {"before": before.fingerprint, "after": row.fingerprint}
            await append(connection, [administrative(Name.TOKEN_ROTATED, self._by, name, **members)])
            return row

    async def set_token_enabled(self, name: str, *, enabled: bool) -> TokenRow:
        """Allow or stop a token's use.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._tokens.show(connection, name), name)
            row = await self._tokens.set_enabled(connection, name, enabled=enabled)
            what = Name.TOKEN_ENABLED if enabled else Name.TOKEN_DISABLED
            members = {"before": before.token.enabled, "after": row.token.enabled}
            await append(connection, [administrative(what, self._by, name, **members)])
            return row

    async def remove_token(self, name: str) -> TokenRow:
        """Remove a token and every grant of it.

        Raises:
            NotFound, Conflict
        """
        async with writing(self._engine) as connection:
            before = await self._tokens.show(connection, name)
            _removable(before, name, enabled=before.token.enabled)
            row = await self._tokens.remove(connection, name)
            await append(connection, [administrative(Name.TOKEN_REMOVED, self._by, name, before=_token_state(row))])
            return row

    async def key_uses(self) -> list[KeyUse]:
        """Every master key, and how much it seals."""
        async with reading(self._engine) as connection:
            return await Resealing(self._keyring).uses(connection)

    async def reseal(self) -> Resealed:
        """Seal everything under the first master key, in small transactions, each with its record.

        It may be broken off and begun again, and tokens may be changed meanwhile.

        Raises:
            StartRefused: something doesn't open with the master keys that are here; nothing was changed.
        """
        resealing, key_id, count = Resealing(self._keyring), self._keyring.ids[0], 0
        async with reading(self._engine) as connection:
            await resealing.check(connection)
            before = next(use for use in await resealing.uses(connection) if use.first)
        while True:
            async with writing(self._engine) as connection:
                some = await resealing.some(connection)
                if some is None:
                    return Resealed(key_id, count, before.tokens + before.keys)
                await append(connection, [administrative(Name.VAULT_RESEALED, self._by, VAULT, key_id=key_id, count=some)])
            count += some

    async def callers(self) -> list[CallerRow]:
        """Every caller, by name."""
        async with reading(self._engine) as connection:
            return await self._callers.all(connection)

    async def caller(self, name: str) -> CallerRow:
        """One caller.

        Raises:
            NotFound
        """
        async with reading(self._engine) as connection:
            return await self._callers.show(connection, name)

    async def add_caller(self, new: NewCaller, *, expires_at: datetime | None = None) -> tuple[CallerRow, GatewayKey]:
        """Add a caller with its grants and a key, which can be shown only now and ends at `expires_at`, if ever.

        Raises:
            ParameterInvalid, Conflict, NotFound
        """
        async with writing(self._engine) as connection:
            row, key = await self._callers.add(connection, new, expires_at=expires_at)
            members = {"credential_id": key.id, "expires_at": _end_of(row, key)} | _traits(row)
            await append(connection, [administrative(Name.CALLER_ADDED, self._by, new.name, **members)])
            return row, key

    async def change_caller(self, new: NewCaller) -> CallerRow:
        """Make the caller of that name what `new` says, its grants included; its keys stay. `CallerRow.as_new` is what it is now.

        Raises:
            ParameterInvalid, NotFound, Conflict
        """
        return await self.adjust_caller(new.name, lambda _: new)

    async def adjust_caller(self, name: str, adjusted: Callable[[NewCaller], NewCaller]) -> CallerRow:
        """Make a caller what `adjusted` makes of what it is at that very moment, so that no grant that is taken back meanwhile returns.

        Raises:
            ParameterInvalid, NotFound, Conflict
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.change(connection, adjusted(before.as_new()))
            old, now = _traits(before), _traits(row)
            changed = [name for name in old if old[name] != now[name]]
            members = {when: [_written(name, traits[name]) for name in changed] for when, traits in (("before", old), ("after", now))}
            await append(connection, [administrative(Name.CALLER_CHANGED, self._by, name, **members)])
            return row

    async def set_caller_enabled(self, name: str, *, enabled: bool) -> CallerRow:
        """Let a caller call, or not, whatever its credentials.

        Raises:
            NotFound, Conflict
        """
        async with writing(self._engine) as connection:
            _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.set_enabled(connection, name, enabled=enabled)
            what = Name.CALLER_ENABLED if enabled else Name.CALLER_DISABLED
            await append(connection, [administrative(what, self._by, name)])
            return row

    async def grant(self, name: str, asked: GrantAsked) -> CallerRow:
        """Let a caller use a token.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.grant(connection, name, asked)
            members = {"before": _texts(before.grants), "after": _texts(row.grants)}
            await append(connection, [administrative(Name.CALLER_GRANTED, self._by, name, **members)])
            return row

    async def revoke(self, name: str, token: str) -> CallerRow:
        """Take a caller's grant for a token back.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.revoke(connection, name, token)
            members = {"before": _texts(before.grants), "after": _texts(row.grants)}
            await append(connection, [administrative(Name.CALLER_REVOKED, self._by, name, **members)])
            return row

    async def rotate_key(self, name: str, *, grace: float = 0.0, expires_at: datetime | None = None) -> tuple[CallerRow, GatewayKey]:
        """Give a caller a new key, which can be shown only now; its keys so far end after `grace` seconds, or sooner where they would have.

        Raises:
            NotFound, ParameterInvalid, Conflict
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row, key = await self._callers.rotate_key(connection, name, grace=grace, expires_at=expires_at)
            members = {"credential_id": key.id, "expires_at": _end_of(row, key), "before": _key_texts(before), "after": _key_texts(row)}
            await append(connection, [administrative(Name.CALLER_KEY_ROTATED, self._by, name, **members)])
            return row, key

    async def remove_caller(self, name: str) -> CallerRow:
        """Remove a caller with its keys and grants.

        Raises:
            NotFound, Conflict
        """
        async with writing(self._engine) as connection:
            before = await self._callers.show(connection, name)
            _removable(before, name, enabled=before.enabled)
            row = await self._callers.remove(connection, name)
            await append(connection, [administrative(Name.CALLER_REMOVED, self._by, name)])
            return row


R = TypeVar("R", TokenRow, CallerRow)
Trait = str | int | list[str] | None


def _changeable(row: R, name: str) -> R:
    """The row, unless the configuration file declares it, which alone may change it then."""
    if row.declared:
        message = f"{name} is declared in the configuration file; change it there"
        raise Conflict(message)
    return row


def _token_traits(row: TokenRow) -> dict[str, str | int]:
    token = row.token
    return {"kind": token.kind.value, "rate": token.rate, "burst": token.burst.value, "pacing": token.pacing.value}


def _token_state(row: TokenRow) -> dict[str, str | int]:
    """All that is on record of a token that comes or goes; of its value only the fingerprint."""
    return _token_traits(row) | {"enabled": row.token.enabled, "fingerprint": row.fingerprint}


def _removable(row: R, name: str, *, enabled: bool) -> R:
    """The row, unless the configuration file declares it now. What it no longer declares is disabled, and may go."""
    return _changeable(row, name) if enabled else row


def _texts(grants: tuple[GrantAsked, ...]) -> list[str]:
    return [str(grant) for grant in grants]


def _key_texts(row: CallerRow) -> list[str]:
    """A caller's keys by their IDs, each with its end, if it has one."""
    return [f"{key.id} until {key.expires_at}" if key.expires_at else key.id for key in row.keys]


def _end_of(row: CallerRow, key: GatewayKey) -> str | None:
    return next(one.expires_at for one in row.keys if one.id == key.id)


def _traits(row: CallerRow) -> dict[str, Trait]:
    """What a caller is made of, without what it hasn't."""
    return {
        "role": row.role,
        "weight": row.weight,
        "rate": row.rate,
        "grants": _texts(row.grants),
        "default_token": row.default_token,
        "networks": list(row.networks) or None,
        "origins": list(row.origins) or None,
        "claims": [f"{name}={value}" for name, value in sorted(row.claims.items())] or None,
    }


def _written(name: str, trait: Trait) -> str:
    return f"{name}={' '.join(trait) if isinstance(trait, list) else trait or ''}"
