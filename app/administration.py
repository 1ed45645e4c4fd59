"""Changes to tokens and callers: each in one transaction with its audit record, the same for every way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import CallerRow, CallerStore, GatewayKey, GrantAsked, NewCaller
from app.changes import Changes
from app.domain import Actor, TokenValue
from app.errors import Conflict, ParameterInvalid
from app.recording import record_changes
from app.storage import reading, writing
from app.vault import Keyring, KeyUse, NewToken, Resealing, TokenChange, TokenRow, TokenStore, check_sealed

__all__ = ["Administration", "Resealed"]


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
        by: who makes the changes, as `how:name`, or with the request that they come with, for the record.
    """

    def __init__(self, engine: AsyncEngine, keyring: Keyring, by: Actor | str) -> None:
        self._engine = engine
        self._tokens = TokenStore(keyring)
        self._callers = CallerStore()
        self._keyring = keyring
        self._changes = Changes(by)

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
            await record_changes(connection, self._keyring, [self._changes.token_added(row)])
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
            await record_changes(connection, self._keyring, [self._changes.token_changed(before, row)])
            return row

    async def rotate_token(self, name: str, value: TokenValue) -> TokenRow:
        """Put a new value in place of the old one.

        Raises:
            NotFound, ParameterInvalid, Conflict
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._tokens.show(connection, name), name)
            row = await self._tokens.rotate(connection, name, value)
            await record_changes(connection, self._keyring, [self._changes.token_rotated(before, row)])
            return row

    async def set_token_enabled(self, name: str, *, enabled: bool) -> TokenRow:
        """Allow or stop a token's use.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._tokens.show(connection, name), name)
            row = await self._tokens.set_enabled(connection, name, enabled=enabled)
            await record_changes(connection, self._keyring, [self._changes.token_switched(before, row)])
            return row

    async def remove_token(self, name: str) -> TokenRow:
        """Remove a token and every grant of it, each on record.

        Raises:
            NotFound, Conflict
        """
        async with writing(self._engine) as connection:
            before = await self._tokens.show(connection, name)
            _removable(before, name, enabled=before.token.enabled)
            revoked = [self._changes.caller_revoked(*both) for both in await self._callers.revoke_all(connection, name)]
            row = await self._tokens.remove(connection, name)
            await record_changes(connection, self._keyring, [*revoked, self._changes.token_removed(row)])
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
            await check_sealed(connection, self._keyring)
            before = next(use for use in await resealing.uses(connection) if use.first)
        while True:
            async with writing(self._engine) as connection:
                some = await resealing.some(connection)
                if some is None:
                    return Resealed(key_id, count, before.tokens + before.keys)
                await record_changes(connection, self._keyring, [self._changes.vault_resealed(key_id, some)])
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
            await self._tokens.check_name(connection, new.name)
            row, key = await self._callers.add(connection, new, expires_at=expires_at)
            await record_changes(connection, self._keyring, [self._changes.caller_added(row, key.id)])
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
            await record_changes(connection, self._keyring, [self._changes.caller_changed(before, row)])
            return row

    async def set_caller_enabled(self, name: str, *, enabled: bool) -> CallerRow:
        """Let a caller call, or not, whatever its credentials.

        Raises:
            NotFound, Conflict
        """
        async with writing(self._engine) as connection:
            _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.set_enabled(connection, name, enabled=enabled)
            await record_changes(connection, self._keyring, [self._changes.caller_switched(row)])
            return row

    async def grant(self, name: str, asked: GrantAsked) -> CallerRow:
        """Let a caller use a token.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.grant(connection, name, asked)
            await record_changes(connection, self._keyring, [self._changes.caller_granted(before, row)])
            return row

    async def revoke(self, name: str, token: str) -> CallerRow:
        """Take a caller's grant for a token back.

        Raises:
            NotFound
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row = await self._callers.revoke(connection, name, token)
            await record_changes(connection, self._keyring, [self._changes.caller_revoked(before, row)])
            return row

    async def rotate_key(self, name: str, *, grace: float = 0.0, expires_at: datetime | None = None) -> tuple[CallerRow, GatewayKey]:
        """Give a caller a new key, which can be shown only now; its keys so far end after `grace` seconds, or sooner where they would have.

        Raises:
            NotFound, ParameterInvalid, Conflict
        """
        async with writing(self._engine) as connection:
            before = _changeable(await self._callers.show(connection, name), name)
            row, key = await self._callers.rotate_key(connection, name, grace=grace, expires_at=expires_at)
            await record_changes(connection, self._keyring, [self._changes.key_rotated(before, row, key.id)])
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
            await record_changes(connection, self._keyring, [self._changes.caller_removed(row)])
            return row


R = TypeVar("R", TokenRow, CallerRow)


def _changeable(row: R, name: str) -> R:
    """The row, unless the configuration file declares it, which alone may change it then."""
    if row.declared:
        message = f"{name} is declared in the configuration file; change it there"
        raise Conflict(message)
    return row


def _removable(row: R, name: str, *, enabled: bool) -> R:
    """The row, unless the configuration file declares it now. What it no longer declares is disabled, and may go."""
    return _changeable(row, name) if enabled else row
