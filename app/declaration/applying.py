"""Applying a declaration: tokens and callers brought to it in one transaction, each change on record."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from app.declaration.callers import DeclaredCallers
from app.declaration.journal import Journal
from app.declaration.reading import Declaration
from app.declaration.tokens import DeclaredTokens
from app.recording import record_changes
from app.storage import writing
from app.vault import Keyring, TokenStore

__all__ = ["Applied", "apply"]


@dataclass(frozen=True, slots=True)
class Applied:
    """How many tokens and callers are declared, and what had to be changed, by the records' names."""

    tokens: int
    callers: int
    changes: dict[str, int]


async def apply(engine: AsyncEngine, keyring: Keyring, declaration: Declaration) -> Applied:
    """Bring tokens and callers to what is declared, under the database's write lock; where nothing differs, nothing is written.

    Raises:
        StartRefused: something declared is in another's way; nothing was changed, and the message names the place.
        sqlalchemy.exc.SQLAlchemyError: the database can't be written; nothing was changed.
    """
    journal, store = Journal(f"configuration:{declaration.source.name}"), TokenStore(keyring)
    async with writing(engine) as connection:
        await DeclaredTokens(store, declaration.tokens, journal).apply(connection)
        await DeclaredCallers(declaration.callers, store, await store.all(connection), journal).apply(connection)
        if journal.records:
            await record_changes(connection, keyring, journal.records)
    return Applied(len(declaration.tokens), len(declaration.callers), journal.counts())
