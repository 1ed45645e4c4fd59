"""The rows of the callers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.callers import GrantAsked, NewCaller
from app.domain import Role
from app.errors import Conflict, NotFound, ParameterInvalid
from app.storage import current_revision, reading, writing
from app.storage.tables import caller_keys, callers, grants

from .database import STORE, TOKENS, loaded, proven, shown, with_caller, with_tokens

SHOP = GrantAsked("shop")


async def test_a_caller_is_added_as_it_was_asked(engine: AsyncEngine) -> None:
    """A new caller has the grants, default, role, weight and rate that it was given, and one key."""
    await with_tokens(engine, "shop", "store")
    grants_asked = (GrantAsked("store", ("b", "a", "b")), SHOP)
    async with writing(engine) as connection:
        row, key = await STORE.add(connection, NewCaller("admin-ui", grants_asked, "shop", Role.ADMIN, 3, "10/minute"))

    assert (row.name, row.role, row.weight, row.rate, row.default_token) == ("admin-ui", "admin", 3, "10/minute", "shop")
    assert row.grants == (SHOP, GrantAsked("store", ("a", "b")))
    assert [one.id for one in row.keys] == [key.id]
    assert await shown(engine, "admin-ui") == row


async def test_a_caller_needs_nothing_but_a_name(engine: AsyncEngine) -> None:
    """Without more, a caller has weight 1, the gateway's own rate, no role and no grants."""
    row, _ = await with_caller(engine)

    assert (row.role, row.weight, row.rate, row.default_token, row.grants) == (None, 1, None, None, ())


async def test_no_column_holds_a_key(engine: AsyncEngine) -> None:
    """Of a key's secret a hash is stored, and nothing else."""
    _, key = await with_caller(engine)

    async with reading(engine) as connection:
        rows = [(await connection.execute(select(table))).one() for table in (callers, caller_keys)]
    assert not any(key.secret.encode() in (cell if isinstance(cell, bytes) else str(cell).encode()) for row in rows for cell in row)


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        (NewCaller(""), "a caller's name has"),
        (NewCaller("-a"), "a caller's name has"),
        (NewCaller("a b"), "a caller's name has"),
        (NewCaller("a\n"), "a caller's name has"),
        (NewCaller("é"), "a caller's name has"),
        (NewCaller("n" * 65), "a caller's name has"),
        (NewCaller("a", weight=0), "a caller's weight is 1 to 1000"),
        (NewCaller("a", weight=1_001), "a caller's weight is 1 to 1000"),
        (NewCaller("a", rate=""), "a caller's rate is one limit"),
        (NewCaller("a", rate="often"), "a caller's rate is one limit"),
        (NewCaller("a", rate="1/second,2/minute"), "a caller's rate is one limit"),
        (NewCaller("a", (SHOP,), "store"), "the default token store must be among the grants"),
        (NewCaller("a", (), "shop"), "the default token shop must be among the grants"),
    ],
)
async def test_what_is_no_caller_is_refused(engine: AsyncEngine, new: NewCaller, fault: str) -> None:
    """A name, weight, rate or default that isn't one is refused with what it should be."""
    await with_tokens(engine, "shop", "store")

    async with writing(engine) as connection:
        with pytest.raises(ParameterInvalid, match=fault):
            await STORE.add(connection, new)

        assert await STORE.all(connection) == []


async def test_a_name_is_held_once(engine: AsyncEngine) -> None:
    """A second caller of the same name is refused."""
    await with_caller(engine)

    with pytest.raises(Conflict, match="there is a caller named order-service already"):
        await with_caller(engine)


@pytest.mark.parametrize("default", [None, "none"])
async def test_a_grant_for_no_token_is_refused(engine: AsyncEngine, default: str | None) -> None:
    """A caller whose grants name a token that there isn't is refused whole."""
    with pytest.raises(NotFound, match="there is no token named none"):
        await with_caller(engine, "a", GrantAsked("none"), default=default)

    async with reading(engine) as connection:
        assert await STORE.all(connection) == []


async def test_a_grant_takes_the_place_of_the_one_before(engine: AsyncEngine) -> None:
    """There is one grant for a caller and a token: the last one."""
    await with_tokens(engine, "shop")
    await with_caller(engine, "order-service", SHOP)
    async with writing(engine) as connection:
        narrowed = await STORE.grant(connection, "order-service", GrantAsked("shop", ("link-orders",)))
        widened = await STORE.grant(connection, "order-service", SHOP)

    assert narrowed.grants == (GrantAsked("shop", ("link-orders",)),)
    assert widened.grants == (SHOP,)


async def test_a_revoked_grant_is_gone(engine: AsyncEngine) -> None:
    """Taking a grant back leaves the others, and the default if it was another token."""
    await with_tokens(engine, "shop", "store")
    await with_caller(engine, "order-service", SHOP, GrantAsked("store"), default="store")
    async with writing(engine) as connection:
        row = await STORE.revoke(connection, "order-service", "shop")

    assert (row.grants, row.default_token) == ((GrantAsked("store"),), "store")


async def test_a_revoked_grant_takes_the_default_along(engine: AsyncEngine) -> None:
    """A token that was taken back isn't the default any more, nor when it is granted again."""
    await with_tokens(engine, "shop", "store")
    await with_caller(engine, "order-service", SHOP, GrantAsked("store"), default="shop")
    async with writing(engine) as connection:
        revoked = await STORE.revoke(connection, "order-service", "shop")
        again = await STORE.grant(connection, "order-service", SHOP)

    assert revoked.default_token is None
    assert again.default_token is None


async def test_a_rotated_key_replaces_the_old_one(engine: AsyncEngine) -> None:
    """After a rotation the caller has one key, a new one."""
    _, old = await with_caller(engine)
    async with writing(engine) as connection:
        row, new = await STORE.rotate_key(connection, "order-service")

    assert [one.id for one in row.keys] == [new.id]
    assert new.id != old.id
    assert (await proven(await loaded(engine), [], [new.reveal()])).id == row.id


async def test_a_removed_caller_is_gone_with_its_keys_and_grants(engine: AsyncEngine) -> None:
    """Nothing of a removed caller stays behind, and its name is free again."""
    await with_tokens(engine, "shop")
    row, _ = await with_caller(engine, "order-service", SHOP)
    async with writing(engine) as connection:
        gone = await STORE.remove(connection, "order-service")
        left = [(await connection.execute(select(table))).all() for table in (callers, caller_keys, grants)]

    assert gone == row
    assert left == [[], [], []]
    assert (await with_caller(engine))[0].id != row.id


async def test_a_removed_token_takes_grants_and_defaults_along(engine: AsyncEngine) -> None:
    """When a token goes, so do its grants, and it is nobody's default."""
    await with_tokens(engine, "shop", "store")
    await with_caller(engine, "order-service", SHOP, GrantAsked("store"), default="shop")
    async with writing(engine) as connection:
        await TOKENS.remove(connection, "shop")

    row = await shown(engine)

    assert (row.grants, row.default_token) == ((GrantAsked("store"),), None)


async def test_the_callers_are_listed_by_name(engine: AsyncEngine) -> None:
    """All callers come in the order of their names, as each is shown by itself."""
    for name in ("b", "c", "a"):
        await with_caller(engine, name)

    async with reading(engine) as connection:
        assert await STORE.all(connection) == [await STORE.show(connection, name) for name in "abc"]


Work = Callable[[AsyncConnection], Awaitable[Any]]


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda connection: STORE.show(connection, "none"), id="show"),
        pytest.param(lambda connection: STORE.grant(connection, "none", SHOP), id="grant"),
        pytest.param(lambda connection: STORE.revoke(connection, "none", "shop"), id="revoke"),
        pytest.param(lambda connection: STORE.rotate_key(connection, "none"), id="rotate-key"),
        pytest.param(lambda connection: STORE.remove(connection, "none"), id="remove"),
    ],
)
async def test_a_caller_that_is_not_there(engine: AsyncEngine, work: Work) -> None:
    """Whatever is done to a caller that there isn't is refused by its name."""
    await with_tokens(engine, "shop")

    with pytest.raises(NotFound, match="there is no caller named none"):
        async with writing(engine) as connection:
            await work(connection)


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        pytest.param(lambda connection: STORE.grant(connection, "order-service", GrantAsked("none")), "no token named none", id="grant"),
        pytest.param(lambda connection: STORE.revoke(connection, "order-service", "none"), "no token named none", id="revoke"),
        pytest.param(lambda connection: STORE.revoke(connection, "order-service", "shop"), "has no grant for shop", id="no grant"),
    ],
)
async def test_a_grant_that_is_not_there(engine: AsyncEngine, work: Work, fault: str) -> None:
    """Granting no token, and taking back what wasn't granted, are refused with what there isn't."""
    await with_tokens(engine, "shop")
    await with_caller(engine)

    with pytest.raises(NotFound, match=fault):
        async with writing(engine) as connection:
            await work(connection)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda connection: STORE.add(connection, NewCaller("new")), id="add"),
        pytest.param(lambda connection: STORE.grant(connection, "order-service", GrantAsked("shop", ("a",))), id="grant"),
        pytest.param(lambda connection: STORE.revoke(connection, "order-service", "shop"), id="revoke"),
        pytest.param(lambda connection: STORE.rotate_key(connection, "order-service"), id="rotate-key"),
        pytest.param(lambda connection: STORE.remove(connection, "order-service"), id="remove"),
    ],
)
async def test_every_change_is_told(engine: AsyncEngine, work: Work) -> None:
    """Each change makes the revision grow, so that running servers read the callers again."""
    await with_tokens(engine, "shop")
    await with_caller(engine, "order-service", SHOP)

    async with writing(engine) as connection:
        before = await current_revision(connection)
        await work(connection)
        assert await current_revision(connection) > before


def test_a_grant_is_written_as_an_operator_writes_it() -> None:
    """A grant's text is the one that the command line takes."""
    assert str(SHOP) == "shop"
    assert str(GrantAsked("shop", ("a", "b"))) == "shop:a,b"
