"""Keys without their secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import CallerStore, HashedKey, HashedKeyStore, NewCaller, make_key, parse_hashed
from app.errors import Conflict
from app.storage import reading, writing
from tests.storage.database import opened

KEY = HashedKey("0123456789ab", bytes(range(32)), "2027-01-01T00:00:00.000000+00:00")


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A database with two callers that have no key."""
    async with opened(database) as engine:
        async with writing(engine) as connection:
            for name in ("first", "second"):
                await CallerStore().add_without_key(connection, NewCaller(name))
        yield engine


def test_a_hashed_key_is_read_as_it_is_written() -> None:
    """A key's hash in text is that key's, and its secret stands in neither the text nor the repr."""
    key = make_key()
    hashed = HashedKey.of(key)

    assert parse_hashed(str(hashed)) == hashed == HashedKey(key.id, key.sha256)
    assert key.secret not in str(hashed) + repr(hashed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fgk_0123456789ab",
        f"fgk_0123456789ab:{'a' * 63}",
        f"fgk_0123456789ab:{'A' * 64}",
        f"fgk_0123456789AB:{'a' * 64}",
        f"fgk_0123456789ab_{'a' * 43}",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    """Only an ID and 64 small hexadecimal digits are a hashed key."""
    assert parse_hashed(text) is None


async def test_a_callers_keys_come_and_go(engine: AsyncEngine) -> None:
    """A key is one caller's alone, and may be given an end or be taken back."""
    store = HashedKeyStore()
    async with writing(engine) as connection:
        first, second = [(await CallerStore().show(connection, name)).id for name in ("first", "second")]
        await store.add(connection, first, KEY)
        with pytest.raises(Conflict, match="the key 0123456789ab is first's already"):
            await store.add(connection, second, KEY)
        held = await store.all(connection)
        await store.set_expiry(connection, HashedKey(KEY.id, KEY.sha256))
        endless = await store.all(connection)
        await store.remove(connection, KEY.id)

    assert held == {first: {KEY.id: KEY}}
    assert endless == {first: {KEY.id: HashedKey(KEY.id, KEY.sha256)}}
    async with reading(engine) as connection:
        assert await store.all(connection) == {}
