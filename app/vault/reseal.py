"""Sealing anew: what other master keys sealed comes under the first. Every function works in the transaction that it is handed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.vault.keyring import Keyring
from app.vault.registry import sealed_in
from app.vault.shelves import SHELVES, Shelf

__all__ = ["KeyUse", "Resealing"]

ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What a master key seals: so many tokens, and so many of the gateway's own keys.

    `first`: it seals what is new. `present`: it is among the master keys that are here.
    """

    id: str
    first: bool
    present: bool
    tokens: int
    keys: int


class Resealing:
    """Brings every sealed row under the first master key. A token's version and lane stay: its value is the same.

    Args:
        keyring: the master keys.
        at_once: rows of a table in one transaction, at most.
    """

    def __init__(self, keyring: Keyring, *, at_once: int = ROWS_AT_ONCE) -> None:
        self._keyring = keyring
        self._at_once = at_once

    async def uses(self, connection: AsyncConnection) -> list[KeyUse]:
        """Every master key that is here, or that a row names, in the order of the keys that are here."""
        counted = [await _count(connection, shelf) for shelf in SHELVES]
        here = self._keyring.ids
        elsewhere = sorted(set().union(*counted) - set(here))
        return [KeyUse(one, one == here[0], one in here, *(count[one] for count in counted)) for one in (*here, *elsewhere)]

    async def some(self, connection: AsyncConnection) -> int | None:
        """Seal some rows anew that another key sealed.

        Returns:
            How many were; None where there were none to look at, so that all is done.

        Raises:
            SealedWrongly: a row doesn't open.
        """
        found = [(shelf, row) for shelf in SHELVES for row in await self._left(connection, shelf)]
        if not found:
            return None
        return sum([await self._reseal(connection, shelf, row) for shelf, row in found])

    async def _left(self, connection: AsyncConnection, shelf: Shelf) -> list[RowMapping]:
        left = select(shelf.table).where(shelf.table.c.key_id != self._keyring.ids[0]).limit(self._at_once)
        return list((await connection.execute(left)).mappings())

    async def _reseal(self, connection: AsyncConnection, shelf: Shelf, row: RowMapping) -> int:
        place = shelf.place(row)
        fresh = self._keyring.seal(self._keyring.open(sealed_in(row), place), place)
        # By its old nonce: a value that was rotated since it was read must not be put back.
        same = (shelf.identity == row[shelf.identity.name]) & (shelf.table.c.nonce == row["nonce"])
        changed = {"key_id": fresh.key_id, "nonce": fresh.nonce, "sealed": fresh.ciphertext}
        return (await connection.execute(update(shelf.table).where(same).values(changed))).rowcount


async def _count(connection: AsyncConnection, shelf: Shelf) -> Counter[str]:
    counted = select(shelf.table.c.key_id, func.count()).group_by(shelf.table.c.key_id)
    return Counter({str(row[0]): int(row[1]) for row in await connection.execute(counted)})
