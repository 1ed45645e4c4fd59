"""The gateway's own keys in the database."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import StartRefused
from app.storage import writing
from app.storage.tables import sealed_keys
from app.vault import TICKET_SIGNING, Keyring, own_key

KEYRING = Keyring({"k1": bytes(range(32))})


async def key_of(engine: AsyncEngine, keyring: Keyring = KEYRING, name: str = TICKET_SIGNING) -> bytes:
    """The key of that name."""
    async with writing(engine) as connection:
        return await own_key(connection, keyring, name)


async def test_a_key_is_made_once(engine: AsyncEngine) -> None:
    """Whoever comes later, another replica or the next start, gets the same; another name is another key."""
    first, again, other = await key_of(engine), await key_of(engine), await key_of(engine, name="other")

    assert first == again
    assert first != other
    assert len(first) == 32


async def test_a_key_opens_with_any_master_key_that_is_here(engine: AsyncEngine) -> None:
    """A new first master key leaves it as it is."""
    first = await key_of(engine)

    assert await key_of(engine, Keyring({"k2": bytes(32), "k1": bytes(range(32))})) == first


async def test_without_its_master_key_the_start_is_refused(engine: AsyncEngine) -> None:
    """A second signing key would make tickets that other replicas refuse."""
    await key_of(engine)

    with pytest.raises(StartRefused, match=r"^GATEWAY_MASTER_KEYS: "):
        await key_of(engine, Keyring({"k2": bytes(32)}))


async def test_a_key_opens_under_its_own_name_only(engine: AsyncEngine) -> None:
    """A row that was renamed in the database is no other key."""
    await key_of(engine, name="other")
    async with writing(engine) as connection:
        await connection.execute(update(sealed_keys).values(name=TICKET_SIGNING))

    with pytest.raises(StartRefused):
        await key_of(engine)
