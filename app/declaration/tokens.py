"""Bringing the tokens to their declared state, in the transaction that is handed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers import CallerStore
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
        self._callers = CallerStore()
        self._rows: dict[str, TokenRow] = {}
        self._holders: dict[str, TokenRow] = {}

    async def apply(self, connection: AsyncConnection) -> None:
        """Disable what isn't declared any more; add and change what is. Values may move among the declared, whatever their order.

        Raises:
            StartRefused: a name or a value is another's; the message names the place.
        """
        self._rows = {row.token.name: row for row in await self._store.all(connection)}
        self._holders = {row.token.lane: row for row in self._rows.values()}
        for row in list(self._rows.values()):
            if self._is_left_over(row) and row.token.enabled:
                await self._switch(connection, row.token.name, enabled=False)
        lanes = await self._lanes(connection)
        # All values are let go before any is taken: one token's may be another's in the same step.
        for name, one in self._declared.items():
            with refusing(one.place):
                self._check(name, lanes)
                await self._free(connection, name, lanes[name])
        for name, one in self._declared.items():
            with refusing(one.place):
                await self._bring(connection, one.new, lanes[name])

    async def _lanes(self, connection: AsyncConnection) -> dict[str, str]:
        """The lane that each declared token is to have, by its name."""
        if not self._declared:
            return {}
        return dict(
            zip(self._declared, await self._store.lanes_of(connection, [one.new.value for one in self._declared.values()]), strict=True)
        )

    def _is_left_over(self, row: TokenRow) -> bool:
        """Whether an earlier declaration made it and this one doesn't name it."""
        return row.declared and row.token.name not in self._declared

    def _check(self, name: str, lanes: Mapping[str, str]) -> None:
        row = self._rows.get(name)
        if row and not row.declared:
            message = f"a token named {name} was added otherwise: rename one of the two, or remove that one with `token remove {name}`"
            raise Conflict(message)
        owner = self._owner(lanes[name], lanes)
        if owner != name:
            message = f"its value is held by the token {owner} already: one token has one lane, under one name"
            raise Conflict(message)

    def _owner(self, lane: str, lanes: Mapping[str, str]) -> str:
        """Whose a value is to be: his who has it and keeps it, else his who asks for it first."""
        holder = self._holders.get(lane)
        if holder and not self._is_left_over(holder) and lanes.get(holder.token.name, lane) == lane:
            return holder.token.name
        return next(name for name, wanted in lanes.items() if wanted == lane)

    async def _free(self, connection: AsyncConnection, name: str, lane: str) -> None:
        """Have the value that a token is to have held by nobody else."""
        holder = self._holders.get(lane)
        if holder is None or holder.token.name == name:
            return
        if self._is_left_over(holder):
            await self._give_up(connection, holder)
        else:
            await self._store.vacate(connection, holder.token.name)

    async def _give_up(self, connection: AsyncConnection, row: TokenRow) -> None:
        """Remove a token whose value goes on under another name: a value can't stand in two rows, not even while one is disabled."""
        name = row.token.name
        others = [caller.name for caller in await self._callers.granted(connection, name) if not caller.declared]
        if others:
            held = f"its value is held by the token {name}, which isn't declared any more, but which callers outside this file may use"
            message = f"{held}: {', '.join(others)}; revoke those grants first, or keep the name"
            raise Conflict(message)
        for before, after in await self._callers.revoke_all(connection, name):
            self._journal.add(self._changes.caller_revoked(before, after))
        await self._store.remove(connection, name)
        self._journal.add(self._changes.token_removed(self._rows.pop(name)))

    async def _bring(self, connection: AsyncConnection, new: NewToken, lane: str) -> None:
        row = self._rows.get(new.name)
        if row is None:
            await self._add(connection, new)
            return
        wanted = replace(row.token, kind=new.kind, rate=new.rate, burst=new.burst, pacing=new.pacing)
        if row.token != wanted:
            await self._change(connection, wanted)
        if row.token.lane != lane:
            await self._rotate(connection, row, new)
        if not row.token.enabled:
            await self._switch(connection, new.name, enabled=True)

    async def _add(self, connection: AsyncConnection, new: NewToken) -> None:
        await self._store.add(connection, new)
        row = await self._store.set_declared(connection, new.name, declared=True)
        self._rows[new.name] = row
        self._journal.add(self._changes.token_added(row))

    async def _change(self, connection: AsyncConnection, wanted: TokenRef) -> None:
        before, after = self._rows[wanted.name], await self._store.change(connection, wanted)
        self._rows[wanted.name] = after
        self._journal.add(self._changes.token_changed(before, after))

    async def _rotate(self, connection: AsyncConnection, before: TokenRow, new: NewToken) -> None:
        after = await self._store.rotate(connection, new.name, new.value)
        self._rows[new.name] = after
        self._journal.add(self._changes.token_rotated(before, after))

    async def _switch(self, connection: AsyncConnection, name: str, *, enabled: bool) -> None:
        before, after = self._rows[name], await self._store.set_enabled(connection, name, enabled=enabled)
        self._rows[name] = after
        self._journal.add(self._changes.token_switched(before, after))
