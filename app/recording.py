"""Putting changes on record: in their own transaction, in the chain of administrative changes, under the gateway's signature."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit import Record, Signer, append, is_unsealed, seal_upgraded
from app.storage import reading, writing
from app.vault import CHECKPOINT_SIGNING, Keyring, check_sealed, is_made, own_key

__all__ = ["record_changes", "seal_old_records", "signer_of"]


async def record_changes(connection: AsyncConnection, keyring: Keyring, records: Sequence[Record]) -> None:
    """Write the records of changes that this transaction makes; they stand or fall with it.

    Raises:
        StartRefused: the signing key doesn't open with the master keys that are here.
    """
    await append(connection, records, await signer_of(connection, keyring))


async def seal_old_records(engine: AsyncEngine, keyring: Keyring) -> None:
    """Put the gateway's signature under the records that an upgrade has just chained; nothing where there are none.

    Raises:
        StartRefused: the signing key doesn't open with the master keys that are here.
    """
    async with reading(engine) as connection:
        if not await is_unsealed(connection):
            return
    async with writing(engine) as connection:
        if await is_unsealed(connection):
            await seal_upgraded(connection, await signer_of(connection, keyring))


async def signer_of(connection: AsyncConnection, keyring: Keyring) -> Signer:
    """What signs checkpoints and tombstones; its key is made, in this transaction, where there is none yet.

    Raises:
        StartRefused: the key, or anything else that is sealed, doesn't open with the master keys that are here.
    """
    if not await is_made(connection, CHECKPOINT_SIGNING):
        # With a wrong master key nothing is made: what it sealed the right one wouldn't open.
        await check_sealed(connection, keyring)
    return Signer(await own_key(connection, keyring, CHECKPOINT_SIGNING))
