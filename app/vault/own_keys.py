"""The gateway's own keys: made once, sealed in the database, one for all replicas, so that they outlive the master keys."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import StartRefused
from app.storage import insert_or_skip
from app.storage.tables import sealed_keys
from app.vault.keyring import Keyring, Sealed, SealedWrongly

__all__ = ["CHECKPOINT_SIGNING", "TICKET_SIGNING", "is_made", "open_own_key", "own_key"]

KEY_BYTES = 32
CHECKPOINT_SIGNING = "checkpoint-signing"
"""The name of the key that signs the record's checkpoints, the seed of an Ed25519 key."""

TICKET_SIGNING = "ticket-signing"
"""The name of the key that signs tickets, the seed of an Ed25519 key."""


async def own_key(connection: AsyncConnection, keyring: Keyring, name: str) -> bytes:
    """The 32 random bytes of that name, made in this transaction where there are none yet.

    Raises:
        StartRefused: they don't open with the master keys that are here.
    """
    if (found := await _sealed(connection, name)) is not None:
        # The lock to write isn't asked for where there is nothing to write.
        return open_own_key(keyring, found, name)
    fresh = keyring.seal(secrets.token_bytes(KEY_BYTES), name)
    row = {"name": name, "key_id": fresh.key_id, "nonce": fresh.nonce, "sealed": fresh.ciphertext}
    await insert_or_skip(connection, sealed_keys, row)
    made_by_somebody = await _sealed(connection, name)
    assert made_by_somebody is not None, "it was just put there, by this process or by another"  # noqa: S101
    return open_own_key(keyring, made_by_somebody, name)


async def is_made(connection: AsyncConnection, name: str) -> bool:
    """Whether there are bytes of that name."""
    return await _sealed(connection, name) is not None


async def _sealed(connection: AsyncConnection, name: str) -> Sealed | None:
    row = (await connection.execute(select(sealed_keys).where(sealed_keys.c.name == name))).mappings().one_or_none()
    return Sealed(row["key_id"], row["nonce"], row["sealed"]) if row else None


def open_own_key(keyring: Keyring, sealed: Sealed, name: str) -> bytes:
    """The 32 bytes of that name, as they were sealed.

    Raises:
        StartRefused: they don't open with the master keys that are here.
    """
    try:
        return keyring.open(sealed, name)
    except SealedWrongly as error:
        message = f"GATEWAY_MASTER_KEYS: the master keys that are here don't open what is sealed: {error}"
        raise StartRefused(message) from error
