"""Bringing the tokens to their declared state, in the transaction that is handed over."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Name
from app.declaration.journal import Journal, Trait, refusing
from app.declaration.reading import DeclaredToken
from app.domain import TokenRef
from app.errors import Conflict
from app.vault import NewToken, TokenRow, TokenStore

__all__ = ["DeclaredTokens"]


class DeclaredTokens:
    """The tokens of a declaration.

    Args:
        store: the tokens' rows.
        declared: what the file says.
        journal: takes the changes down.
    """

    def __init__(self, store: TokenStore, declared: tuple[DeclaredToken, ...], journal: Journal) -> None:
        self._store = store
        self._declared = {one.new.name: one for one in declared}
        self._journal = journal

    async def apply(self, connection: AsyncConnection) -> None:
        """Disable what isn't declared any more; add and change what is.

        Raises:
            StartRefused: a name or a value is another's; the message names the place.
        """
        existing = {row.token.name: row for row in await self._store.all(connection)}
        for row in existing.values():
            if self._is_left_over(row) and row.token.enabled:
                await self._set_enabled(connection, row.token.name, enabled=False)
        for one in self._declared.values():
            with refusing(one.place):
                await self._bring(connection, one.new, existing.get(one.new.name))

    def _is_left_over(self, row: TokenRow) -> bool:
        """Whether an earlier declaration made it and this one doesn't name it."""
        return row.declared and row.token.name not in self._declared

    async def _bring(self, connection: AsyncConnection, new: NewToken, row: TokenRow | None) -> None:
        if row is None:
            await self._add(connection, new)
            return
        if not row.declared:
            message = (
                f"a token named {new.name} was added otherwise: rename one of the two, or remove that one with `token remove {new.name}`"
            )
            raise Conflict(message)
        await self._change(connection, new, row.token)
        await self._rotate(connection, new, row)
        if not row.token.enabled:
            await self._set_enabled(connection, new.name, enabled=True)

    async def _add(self, connection: AsyncConnection, new: NewToken) -> None:
        await self._free(connection, new)
        row = await self._store.add(connection, new)
        await self._store.set_declared(connection, new.name, declared=True)
        self._journal.add(Name.TOKEN_ADDED, new.name, **_traits(new), fingerprint=row.fingerprint)

    async def _change(self, connection: AsyncConnection, new: NewToken, token: TokenRef) -> None:
        before, after = _traits(token), _traits(new)
        if before != after:
            await self._store.change(connection, replace(token, kind=new.kind, rate=new.rate, burst=new.burst, pacing=new.pacing))
            self._journal.add_difference(Name.TOKEN_CHANGED, new.name, before, after)

    async def _rotate(self, connection: AsyncConnection, new: NewToken, row: TokenRow) -> None:
        if await self._store.holder_of(connection, new.value) == new.name:
            return
        await self._free(connection, new)
        rotated = await self._store.rotate(connection, new.name, new.value)
        self._journal.add(Name.TOKEN_ROTATED, new.name, before=row.fingerprint, after=rotated.fingerprint)

    async def _free(self, connection: AsyncConnection, new: NewToken) -> None:
        """Have the value held by nobody, if only a token holds it that was declared: then that one goes on under this name."""
        holder = await self._store.holder_of(connection, new.value)
        if holder is None:
            return
        row = await self._store.show(connection, holder)
        if not self._is_left_over(row):
            message = f"its value is held by the token {holder} already: one token has one lane, under one name"
            raise Conflict(message)
        await self._store.remove(connection, holder)
        self._journal.add(Name.TOKEN_REMOVED, holder, fingerprint=row.fingerprint)

    async def _set_enabled(self, connection: AsyncConnection, name: str, *, enabled: bool) -> None:
        await self._store.set_enabled(connection, name, enabled=enabled)
        self._journal.add(Name.TOKEN_ENABLED if enabled else Name.TOKEN_DISABLED, name)


def _traits(token: NewToken | TokenRef) -> dict[str, Trait]:
    return {"kind": token.kind.value, "rate": token.rate, "burst": token.burst.value, "pacing": token.pacing.value}
