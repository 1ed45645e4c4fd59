"""Putting changes on record: in their own transaction, in the chain of administrative changes, under the gateway's signature."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Record, Signer, append
from app.vault import CHECKPOINT_SIGNING, Keyring, own_key

__all__ = ["record_changes"]


async def record_changes(connection: AsyncConnection, keyring: Keyring, records: Sequence[Record]) -> None:
    """Write the records of changes that this transaction makes; they stand or fall with it.

    Raises:
        StartRefused: the signing key doesn't open with the master keys that are here.
    """
    await append(connection, records, Signer(await own_key(connection, keyring, CHECKPOINT_SIGNING)))
