"""Bringing the callers to their declared state, in the transaction that is handed over."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers import CallerRow, CallerStore, HashedKey, HashedKeyStore, NewCaller
from app.declaration.journal import Journal, refusing
from app.declaration.reading import DeclaredCaller
from app.errors import Conflict, NotFound
from app.vault import TokenRow, TokenStore

__all__ = ["DeclaredCallers"]


class DeclaredCallers:
    """The callers of a declaration.

    Args:
        declared: what the file says.
        store: the tokens' rows.
        tokens: all tokens, as they are once the declared ones are in place.
        journal: takes the changes down.
    """

    def __init__(self, declared: tuple[DeclaredCaller, ...], store: TokenStore, tokens: list[TokenRow], journal: Journal) -> None:
        self._store = CallerStore()
        self._token_store = store
        self._keys = HashedKeyStore()
        self._declared = {one.new.name: one for one in declared}
        self._tokens = {row.token.name: row for row in tokens}
        self._journal = journal
        self._changes = journal.changes
        self._wanted = {key.id: (one.new.name, key.sha256) for one in declared for key in one.keys}
        self._held: dict[str, dict[str, HashedKey]] = {}

    async def apply(self, connection: AsyncConnection) -> None:
        """Disable what isn't declared any more; add and change what is.

        Raises:
            StartRefused: a name or a key is another's, or a grant names no token; the message names the place.
        """
        existing = {row.name: row for row in await self._store.all(connection)}
        self._held = await self._keys.all(connection)
        for row in existing.values():
            if row.declared:
                await self._withdraw(connection, row)
        for one in self._declared.values():
            with refusing(one.place):
                row = await self._bring(connection, one.new, existing.get(one.new.name))
                await self._bring_keys(connection, row, one.keys)

    async def _withdraw(self, connection: AsyncConnection, row: CallerRow) -> None:
        """Take back what is no longer declared, before anything is given: a key may go from one caller to another."""
        left_over = row.name not in self._declared
        if left_over and row.enabled:
            await self._switch(connection, row.name, enabled=False)
        for key in list(self._held.get(row.id, {}).values()):
            # Who isn't declared any more keeps its keys, to come back with them, but for those that are another's now.
            stays = key.id not in self._wanted if left_over else self._wanted.get(key.id) == (row.name, key.sha256)
            if not stays:
                await self._keys.remove(connection, key.id)
                del self._held[row.id][key.id]
                self._journal.add(self._changes.key_revoked(row.name, key))

    async def _bring(self, connection: AsyncConnection, new: NewCaller, row: CallerRow | None) -> CallerRow:
        self._check_grants(new)
        if row is None:
            return await self._add(connection, new)
        if not row.declared:
            message = (
                f"a caller named {new.name} was added otherwise: rename one of the two, or remove that one with `caller remove {new.name}`"
            )
            raise Conflict(message)
        if row.as_new() != new:
            self._journal.add(self._changes.caller_changed(row, await self._store.change(connection, new)))
        if not row.enabled:
            await self._switch(connection, new.name, enabled=True)
        return row

    async def _add(self, connection: AsyncConnection, new: NewCaller) -> CallerRow:
        await self._token_store.check_name(connection, new.name)
        await self._store.add_without_key(connection, new)
        row = await self._store.set_declared(connection, new.name, declared=True)
        self._journal.add(self._changes.caller_added(row))
        return row

    async def _bring_keys(self, connection: AsyncConnection, row: CallerRow, keys: tuple[HashedKey, ...]) -> None:
        for key in keys:
            before = self._held.get(row.id, {}).get(key.id)
            if before is None:
                await self._keys.add(connection, row.id, key)
                self._journal.add(self._changes.key_added(row.name, key))
            elif before.expires_at != key.expires_at:
                await self._keys.set_expiry(connection, key)
                self._journal.add(self._changes.key_changed(row.name, before, key))

    def _check_grants(self, new: NewCaller) -> None:
        for number, grant in enumerate(new.grants):
            token = self._tokens.get(grant.token)
            if token is None:
                message = f"grants[{number}] names a token that there isn't"
                raise NotFound(message)
            if token.declared and not token.token.enabled:
                message = f"a grant names the token {grant.token}, which isn't declared any more"
                raise NotFound(message)

    async def _switch(self, connection: AsyncConnection, name: str, *, enabled: bool) -> None:
        self._journal.add(self._changes.caller_switched(await self._store.set_enabled(connection, name, enabled=enabled)))
