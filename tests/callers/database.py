"""Tokens and callers in a test's database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import Authentication, CallerRow, CallerStore, Directory, GatewayKey, GrantAsked, NewCaller, Presented
from app.domain import Caller, TokenKind, TokenRef, TokenValue
from app.storage import reading, writing
from app.vault import Keyring, NewToken, TokenStore

TOKENS = TokenStore(Keyring({"k1": bytes(range(32))}))
STORE = CallerStore()


async def with_tokens(engine: AsyncEngine, *names: str) -> dict[str, TokenRef]:
    """Tokens of these names."""
    async with writing(engine) as connection:
        new = [NewToken(name, TokenKind.ACCOUNT, TokenValue(f"value-of-token-{name}")) for name in names]
        return {one.name: (await TOKENS.add(connection, one)).token for one in new}


async def with_caller(
    engine: AsyncEngine, name: str = "order-service", *grants: GrantAsked, default: str | None = None, **traits: Any
) -> tuple[CallerRow, GatewayKey]:
    """A caller with these grants and traits."""
    async with writing(engine) as connection:
        return await STORE.add(connection, NewCaller(name, grants, default, **traits))


async def shown(engine: AsyncEngine, name: str = "order-service") -> CallerRow:
    """A caller as operators see it."""
    async with reading(engine) as connection:
        return await STORE.show(connection, name)


async def loaded(engine: AsyncEngine, directory: Directory | None = None) -> Directory:
    """A directory that knows the database's callers as of now."""
    directory = directory or Directory()
    async with reading(engine) as connection:
        await directory.load(connection)
    return directory


async def proven(directory: Directory, authorization: Sequence[str], x_api_token: Sequence[str] = ()) -> Caller:
    """The caller that these headers prove."""
    return await Authentication(directory).authenticate(Presented(authorization, x_api_token))
