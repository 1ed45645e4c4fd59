"""Whether a call that was let in may still be sent, once its turn has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.callers import Directory, GatewayKey, GrantAsked, NewCaller
from app.domain import Caller, CredentialKind
from app.errors import CredentialsInvalid
from app.storage import writing

from .database import STORE, loaded, with_tokens

Change = Callable[[AsyncConnection], Awaitable[object]]
Kind = Callable[[Directory, GatewayKey], Caller]

WAITING = NewCaller(
    "order-service", (GrantAsked("shop"),), claims={"azp": "shop"}, networks=("10.0.0.0/8",), origins=("https://a", "https://b")
)
OF_A_PAGE: dict[str, Any] = {"credential": CredentialKind.TICKET, "origins": frozenset({"https://a"})}


def by_key(directory: Directory, key: GatewayKey) -> Caller:
    """The caller of a call that came with a key."""
    return directory.prove(key)


def by_jwt(directory: Directory, _key: GatewayKey) -> Caller:
    """The caller of a call that came with a JWT."""
    return replace(directory.known[0].caller, credential=CredentialKind.JWT)


def by_ticket(directory: Directory, key: GatewayKey) -> Caller:
    """The caller of a page's call, whose ticket was asked with the key."""
    return replace(directory.prove(key), **OF_A_PAGE)


def by_jwts_ticket(directory: Directory, _key: GatewayKey) -> Caller:
    """The same, asked with a JWT."""
    return replace(directory.known[0].caller, **OF_A_PAGE)


async def refuses(engine: AsyncEngine, kind: Kind, change: Change) -> bool:
    """Whether a call that waits from 10.0.0.1 is refused after a change, which it was not before."""
    tokens = await with_tokens(engine, "shop")
    async with writing(engine) as connection:
        _, key = await STORE.add(connection, WAITING)
    directory = await loaded(engine)
    caller, call = kind(directory, key), (tokens["shop"].id, "link-orders", "10.0.0.1")
    directory.require(caller, *call)
    async with writing(engine) as connection:
        await change(connection)
    await loaded(engine, directory)
    try:
        directory.require(caller, *call)
    except CredentialsInvalid as refused:
        return "withdrawn while the call waited" in refused.detail
    return False


@pytest.mark.parametrize("kind", [by_key, by_jwt, by_ticket, by_jwts_ticket])
@pytest.mark.parametrize(("networks", "refused"), [(("192.0.2.0/24",), True), (("10.0.0.0/24",), False), ((), False)])
async def test_a_waiting_call_is_held_to_its_callers_networks(
    engine: AsyncEngine, kind: Kind, networks: tuple[str, ...], *, refused: bool
) -> None:
    """Whatever it came with, it isn't sent once its address is none of the caller's any more."""
    assert await refuses(engine, kind, lambda it: STORE.change(it, replace(WAITING, networks=networks))) is refused


@pytest.mark.parametrize(("kind", "refused"), [(by_key, False), (by_jwt, True), (by_ticket, False), (by_jwts_ticket, True)])
async def test_a_waiting_call_of_a_jwt_is_held_to_its_callers_claims(engine: AsyncEngine, kind: Kind, *, refused: bool) -> None:
    """The claims by which it was the caller's must be those that the caller declares; to keys they don't matter."""
    assert await refuses(engine, kind, lambda it: STORE.change(it, replace(WAITING, claims={"azp": "shop", "role": "x"}))) is refused


@pytest.mark.parametrize(("kind", "refused"), [(by_key, True), (by_jwt, False), (by_ticket, True), (by_jwts_ticket, False)])
async def test_a_waiting_call_is_held_to_its_key(engine: AsyncEngine, kind: Kind, *, refused: bool) -> None:
    """A rotation without grace withdraws it from the calls of the key, and of the tickets that were asked with it."""
    assert await refuses(engine, kind, lambda it: STORE.rotate_key(it, "order-service")) is refused


@pytest.mark.parametrize("kind", [by_ticket, by_jwts_ticket])
@pytest.mark.parametrize(("origins", "refused"), [(("https://b",), True), ((), True), (("https://a",), False)])
async def test_a_waiting_call_of_a_page_is_held_to_its_origin(
    engine: AsyncEngine, kind: Kind, origins: tuple[str, ...], *, refused: bool
) -> None:
    """Its caller's pages must still have it."""
    assert await refuses(engine, kind, lambda it: STORE.change(it, replace(WAITING, origins=origins))) is refused


@pytest.mark.parametrize(("origins", "refused"), [((), False), (("https://b",), True)])
async def test_a_waiting_page_may_have_an_origin_of_the_gateways_list(
    engine: AsyncEngine, origins: tuple[str, ...], *, refused: bool
) -> None:
    """The list counts where the caller has no origins of its own, and only there."""

    def on_the_list(directory: Directory, key: GatewayKey) -> Caller:
        return replace(by_ticket(directory, key), has_listed_origin=True)

    assert await refuses(engine, on_the_list, lambda it: STORE.change(it, replace(WAITING, origins=origins))) is refused


async def test_a_waiting_call_of_a_disabled_caller_is_refused(engine: AsyncEngine) -> None:
    """Whatever its credential."""
    assert await refuses(engine, by_jwts_ticket, lambda it: STORE.set_enabled(it, "order-service", enabled=False))
