"""Bringing the tokens to their declared state, in the transaction that is handed over."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from app.declaration.journal import Journal, refusing
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
        self._changes = journal.changes
        self._rows: dict[str, TokenRow] = {}

    async def apply(self, connection: AsyncConnection) -> None:
        """Disable what isn't declared any more; add and change what is.

        Raises:
            StartRefused: a name or a value is another's; the message names the place.
        """
        self._rows = {row.token.name: row for row in await self._store.all(connection)}
        for row in list(self._rows.values()):
            if self._is_left_over(row) and row.token.enabled:
                await self._switch(connection, row.token.name, enabled=False)
        lanes = await self._store.lanes_of(connection, [one.new.value for one in self._declared.values()]) if self._declared else []
        for one, lane in zip(self._declared.values(), lanes, strict=True):
            with refusing(one.place):
                await self._bring(connection, one.new, lane)

    def _is_left_over(self, row: TokenRow) -> bool:
        """Whether an earlier declaration made it and this one doesn't name it."""
        return row.declared and row.token.name not in self._declared

    async def _bring(self, connection: AsyncConnection, new: NewToken, lane: str) -> None:
        row = self._rows.get(new.name)
        if row is None:
            await self._add(connection, new, lane)
            return
        if not row.declared:
            message = (
                f"a token named {new.name} was added otherwise: rename one of the two, or remove that one with `token remove {new.name}`"
            )
            raise Conflict(message)
        wanted = replace(row.token, kind=new.kind, rate=new.rate, burst=new.burst, pacing=new.pacing)
        if row.token != wanted:
            await self._change(connection, wanted)
        if row.token.lane != lane:
            await self._rotate(connection, new, lane)
        if not row.token.enabled:
            await self._switch(connection, new.name, enabled=True)

    async def _add(self, connection: AsyncConnection, new: NewToken, lane: str) -> None:
        await self._free(connection, lane)
        await self._store.add(connection, new)
        row = await self._store.set_declared(connection, new.name, declared=True)
        self._rows[new.name] = row
        self._journal.add(self._changes.token_added(row))

    async def _change(self, connection: AsyncConnection, wanted: TokenRef) -> None:
        before, after = self._rows[wanted.name], await self._store.change(connection, wanted)
        self._rows[wanted.name] = after
        self._journal.add(self._changes.token_changed(before, after))

    async def _rotate(self, connection: AsyncConnection, new: NewToken, lane: str) -> None:
        await self._free(connection, lane)
        before, after = self._rows[new.name], await self._store.rotate(connection, new.name, new.value)
        self._rows[new.name] = after
        self._journal.add(self._changes.token_rotated(before, after))

    async def _free(self, connection: AsyncConnection, lane: str) -> None:
        """Have the value held by nobody, if only a token holds it that was declared: then that one goes on under another name."""
        holder = next((row for row in self._rows.values() if row.token.lane == lane), None)
        if holder is None:
            return
        name = holder.token.name
        if not self._is_left_over(holder):
            message = f"its value is held by the token {name} already: one token has one lane, under one name"
            raise Conflict(message)
        await self._store.remove(connection, name)
        del self._rows[name]
        self._journal.add(self._changes.token_removed(holder))

    async def _switch(self, connection: AsyncConnection, name: str, *, enabled: bool) -> None:
        before, after = self._rows[name], await self._store.set_enabled(connection, name, enabled=enabled)
        self._rows[name] = after
        self._journal.add(self._changes.token_switched(before, after))
