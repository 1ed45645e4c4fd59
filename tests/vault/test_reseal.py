"""Sealing anew under the first master key: row by row, and never over a change that came meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import RowMapping, delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import TokenValue
from app.errors import StartRefused
from app.storage import current_revision, reading, writing
from app.storage.tables import sealed_keys, tokens
from app.vault import Keyring, KeyUse, Resealing, TokenStore, Vault, check_sealed
from app.vault.shelves import SHELVES

from .tokens import new_token

OLD_KEY, NEW_KEY = {"k1": bytes(range(32))}, {"k2": bytes(range(1, 33))}
OLD, BOTH, NEW = Keyring(OLD_KEY), Keyring(NEW_KEY | OLD_KEY), Keyring(NEW_KEY)
NAMES = ("books", "shop", "toys")


async def sealed(engine: AsyncEngine) -> None:
    """Three tokens, and the fingerprints' key, sealed by the old master key."""
    async with writing(engine) as connection:
        for name in NAMES:
            await TokenStore(OLD).add(connection, new_token(name, f"value-of-token-{name}"))


async def resealed(engine: AsyncEngine, keyring: Keyring = BOTH, at_once: int = 100) -> int | None:
    """One transaction's worth of sealing anew."""
    async with writing(engine) as connection:
        return await Resealing(keyring, at_once=at_once).some(connection)


async def uses(engine: AsyncEngine, keyring: Keyring = BOTH) -> list[KeyUse]:
    """What each master key seals."""
    async with reading(engine) as connection:
        return await Resealing(keyring).uses(connection)


async def values(engine: AsyncEngine, keyring: Keyring) -> dict[str, str]:
    """The tokens' values as a server with these master keys would send them."""
    vault = Vault(keyring)
    async with reading(engine) as connection:
        await vault.load(connection)
    return {token.name: vault.open(token.id)[1].reveal() for token in vault.tokens}


async def everything_else(engine: AsyncEngine) -> list[tuple[Any, ...]]:
    """What a token's row holds beside what sealing changes, and the number that tells servers to read again."""
    kept = [column for column in tokens.c if column.name not in {"key_id", "nonce", "sealed"}]
    async with reading(engine) as connection:
        rows = (await connection.execute(select(*kept).order_by(tokens.c.name))).all()
        return [*map(tuple, rows), (await current_revision(connection),)]


async def test_everything_comes_under_the_first_key(engine: AsyncEngine) -> None:
    """Tokens and the gateway's own keys are opened by the new key alone afterwards, and are what they were."""
    await sealed(engine)

    count, left = await resealed(engine), await resealed(engine)

    assert (count, left) == (4, None)
    assert await uses(engine) == [KeyUse("k2", True, True, 3, 1), KeyUse("k1", False, True, 0, 0)]  # noqa: FBT003 - its members
    assert await values(engine, NEW) == {name: f"value-of-token-{name}" for name in NAMES}
    async with writing(engine) as connection:
        same = await TokenStore(NEW).show(connection, "shop")
        assert (await TokenStore(NEW).rotate(connection, "shop", TokenValue("value-of-token-none"))).fingerprint != same.fingerprint


async def test_nothing_else_of_a_row_changes(engine: AsyncEngine) -> None:
    """Version, lane and times stay, and no server is told to read anew: the values are the same."""
    await sealed(engine)
    before = await everything_else(engine)

    await resealed(engine)

    assert await everything_else(engine) == before


async def test_it_may_be_broken_off_and_begun_again(engine: AsyncEngine) -> None:
    """Between two transactions some rows stand under one key and some under the other: all open, and the rest is done later."""
    await sealed(engine)

    first = await resealed(engine, at_once=1)
    between = await values(engine, BOTH)
    rest = [await resealed(engine, at_once=1) for _ in range(3)]

    assert first == 2
    assert between == {name: f"value-of-token-{name}" for name in NAMES}
    assert rest == [1, 1, None]


async def test_a_rotation_meanwhile_is_not_lost(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was rotated after it was read keeps its new value: the update finds the old nonce no more."""
    await sealed(engine)
    resealing = Resealing(BOTH)
    async with reading(engine) as connection:
        before = {shelf: await resealing._left(connection, shelf) for shelf in SHELVES}

    async def as_read_before(_connection: object, shelf: Any) -> list[RowMapping]:
        return before[shelf]

    monkeypatch.setattr(resealing, "_left", as_read_before)
    async with writing(engine) as connection:
        await TokenStore(OLD).rotate(connection, "shop", TokenValue("value-of-token-new-shop"))
        count = await resealing.some(connection)

    assert count == 3
    assert (await values(engine, BOTH))["shop"] == "value-of-token-new-shop"
    assert [await resealed(engine), await resealed(engine)] == [1, None]
    assert (await values(engine, NEW))["shop"] == "value-of-token-new-shop"


async def refusal(engine: AsyncEngine) -> str:
    """Why nothing is resealed."""
    async with reading(engine) as connection:
        with pytest.raises(StartRefused) as refused:
            await check_sealed(connection, BOTH)
    return str(refused.value)


async def test_what_doesnt_open_is_named_before_anything_changes(engine: AsyncEngine) -> None:
    """Rows of a key that isn't here, and rows that were altered, are named: the tokens or, where these open, the gateway's own keys."""
    await sealed(engine)
    async with writing(engine) as connection:
        await connection.execute(update(sealed_keys).values(sealed=b"nothing that was sealed"))
        await connection.execute(update(tokens).where(tokens.c.name == "shop").values(key_id="k0"))

    refused, used = [await refusal(engine)], await uses(engine)
    async with writing(engine) as connection:
        await connection.execute(delete(tokens).where(tokens.c.name == "shop"))
    refused.append(await refusal(engine))

    assert refused == [
        "GATEWAY_MASTER_KEYS: these tokens don't open with the master keys that are here: shop",
        "GATEWAY_MASTER_KEYS: these keys of the gateway's own don't open with the master keys that are here: token-fingerprint",
    ]
    assert KeyUse("k0", False, False, 1, 0) in used  # noqa: FBT003 - its members
