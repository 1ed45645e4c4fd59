"""Where sealed things stand: the tables with a sealed column, and the place that each row is sealed for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, RowMapping, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import StartRefused
from app.storage.tables import sealed_keys, tokens
from app.vault.keyring import Keyring, SealedWrongly
from app.vault.registry import place_of, sealed_in

__all__ = ["SHELVES", "Shelf", "check_sealed"]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A table of sealed rows: what its rows are called, what identifies one, and the place that it is sealed for."""

    things: str
    table: Table
    identity: Column[Any]
    place: Callable[[RowMapping], str]


SHELVES = (
    Shelf("tokens", tokens, tokens.c.id, lambda row: place_of(row["id"], row["name"])),
    Shelf("keys of the gateway's own", sealed_keys, sealed_keys.c.name, lambda row: str(row["name"])),
)


async def check_sealed(connection: AsyncConnection, keyring: Keyring) -> None:
    """Make sure that everything opens.

    Raises:
        StartRefused: some doesn't open with these master keys; the message names the tokens or, where all of these open, the other keys.
    """
    for shelf in SHELVES:
        rows = (await connection.execute(select(shelf.table))).mappings()
        closed = [str(row["name"]) for row in rows if not _opens(keyring, shelf, row)]
        if closed:
            names = ", ".join(sorted(closed))
            message = f"GATEWAY_MASTER_KEYS: these {shelf.things} don't open with the master keys that are here: {names}"
            raise StartRefused(message)


def _opens(keyring: Keyring, shelf: Shelf, row: RowMapping) -> bool:
    try:
        keyring.open(sealed_in(row), shelf.place(row))
    except SealedWrongly:
        return False
    return True
