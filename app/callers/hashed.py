"""Gateway keys without their secrets: `fgk_<id>:<SHA-256>`, as a file may hold them, and their rows."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers.keys import GatewayKey
from app.domain import utc_now
from app.errors import Conflict
from app.storage import touch_revision
from app.storage.tables import caller_keys, callers

__all__ = ["HashedKey", "HashedKeyStore", "parse_hashed"]

HASHED_PATTERN = re.compile(r"fgk_([0-9a-f]{12}):([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class HashedKey:
    """What is kept of a key. `expires_at` in UTC, ISO 8601; None: never."""

    id: str
    sha256: bytes = field(repr=False)
    expires_at: str | None = None

    @classmethod
    def of(cls, key: GatewayKey) -> Self:
        """A key without its secret."""
        return cls(key.id, key.sha256)

    def __str__(self) -> str:
        return f"fgk_{self.id}:{self.sha256.hex()}"


def parse_hashed(text: str) -> HashedKey | None:
    """The key that the text is, if it has the form `fgk_<id>:<SHA-256 in hex>`."""
    match = HASHED_PATTERN.fullmatch(text)
    return HashedKey(match[1], bytes.fromhex(match[2])) if match else None


class HashedKeyStore:
    """The keys of callers in the database, whose secrets were made elsewhere. Every method works in the transaction that it is handed."""

    async def all(self, connection: AsyncConnection) -> dict[str, dict[str, HashedKey]]:
        """Every caller's keys by their IDs, by the callers' IDs."""
        found: defaultdict[str, dict[str, HashedKey]] = defaultdict(dict)
        for row in (await connection.execute(select(caller_keys))).mappings():
            found[row["caller_id"]][row["id"]] = HashedKey(row["id"], row["sha256"], row["expires_at"])
        return dict(found)

    async def add(self, connection: AsyncConnection, caller_id: str, key: HashedKey) -> None:
        """Give a caller a key.

        Raises:
            Conflict: a caller has a key of that ID.
        """
        holder = select(callers.c.name).join(caller_keys).where(caller_keys.c.id == key.id)
        if name := (await connection.execute(holder)).scalar_one_or_none():
            message = f"the key {key.id} is {name}'s already"
            raise Conflict(message)
        row = {"id": key.id, "caller_id": caller_id, "sha256": key.sha256, "created_at": utc_now(), "expires_at": key.expires_at}
        await connection.execute(insert(caller_keys).values(row))
        await touch_revision(connection)

    async def set_expiry(self, connection: AsyncConnection, key: HashedKey) -> None:
        """Let the key of that ID end when `key` says."""
        await connection.execute(update(caller_keys).where(caller_keys.c.id == key.id).values(expires_at=key.expires_at))
        await touch_revision(connection)

    async def remove(self, connection: AsyncConnection, key_id: str) -> None:
        """Take a key back."""
        await connection.execute(delete(caller_keys).where(caller_keys.c.id == key_id))
        await touch_revision(connection)
