"""The rows of the callers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.callers import CallerRow, GrantAsked, NewCaller
from app.domain import Role, is_origin
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
    assert (row.networks, row.origins, row.claims, row.enabled, row.declared) == ((), (), {}, True, False)
    assert (row.keys[0].expires_at, row.keys[0].last_used_at) == (None, None)


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
        (NewCaller("a", (SHOP,), "store"), "the default token must be among the grants"),
        (NewCaller("a", (), "shop"), "the default token must be among the grants"),
        (NewCaller("a", networks=("10.0.0.1/8",)), "a caller's network is written as 10.0.0.0/8"),
        (NewCaller("a", networks=("10.0.0.0/8", "everywhere")), "a caller's network is written as 10.0.0.0/8"),
        (NewCaller("a", networks=("",)), "a caller's network is written as 10.0.0.0/8"),
        (NewCaller("a", origins=("shop.example",)), "an origin is written as https://shop.example"),
        (NewCaller("a", claims={"": "x"}), "a claim has a name and a value of 1 to 256 characters"),
        (NewCaller("a", claims={"sub": ""}), "a claim has a name and a value of 1 to 256 characters"),
        (NewCaller("a", claims={"sub": "x" * 257}), "a claim has a name and a value of 1 to 256 characters"),
        (NewCaller("a", claims={"sub": "\udcff"}), "a claim is written in Unicode"),
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
    with pytest.raises(NotFound, match="there is no token of that name"):
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


END = datetime.now(UTC) + timedelta(days=90)


def ends(row: CallerRow) -> dict[str, datetime | None]:
    """When each of a caller's keys ends."""
    return {key.id: datetime.fromisoformat(key.expires_at) if key.expires_at else None for key in row.keys}


async def test_a_key_ends_when_it_was_told(engine: AsyncEngine) -> None:
    """Of a caller's keys, made with it or by a rotation, each has the end that it was made with."""
    async with writing(engine) as connection:
        _, first = await STORE.add(connection, NewCaller("order-service"), expires_at=END)
        row, second = await STORE.rotate_key(connection, "order-service", grace=366 * 86_400, expires_at=END + timedelta(days=1))

    assert ends(row) == {first.id: END, second.id: END + timedelta(days=1)}


async def test_an_end_that_has_passed_is_refused(engine: AsyncEngine) -> None:
    """A key that would have ended already is not made."""
    async with writing(engine) as connection:
        with pytest.raises(ParameterInvalid, match="a key's end must be in the future"):
            await STORE.add(connection, NewCaller("order-service"), expires_at=datetime.now(UTC))


async def test_an_old_key_goes_on_for_the_grace(engine: AsyncEngine) -> None:
    """During a rotation both keys are good: the old one until the grace is over, the new one as it was asked."""
    _, old = await with_caller(engine)
    before = datetime.now(UTC)
    async with writing(engine) as connection:
        row, new = await STORE.rotate_key(connection, "order-service", grace=86_400)
    after = datetime.now(UTC)

    [until, never] = [ends(row)[key.id] for key in (old, new)]
    assert until is not None
    assert before + timedelta(days=1) <= until <= after + timedelta(days=1)
    assert never is None
    directory = await loaded(engine)
    assert [(await proven(directory, [], [key.reveal()])).id for key in (old, new)] == [row.id, row.id]


async def test_a_rotation_prolongs_no_key(engine: AsyncEngine) -> None:
    """A key that ends sooner than the grace ends when it would have; rotating again within the grace prolongs nothing, and may shorten."""
    async with writing(engine) as connection:
        _, first = await STORE.add(connection, NewCaller("order-service"), expires_at=END)
        once, second = await STORE.rotate_key(connection, "order-service", grace=200 * 86_400)
        twice, third = await STORE.rotate_key(connection, "order-service", grace=300 * 86_400)
        thrice, fourth = await STORE.rotate_key(connection, "order-service", grace=3_600)

    assert ends(once)[first.id] == ends(twice)[first.id] == END
    assert ends(twice)[second.id] is not None
    assert list(ends(thrice)) == [first.id, second.id, third.id, fourth.id]
    assert len({ends(thrice)[key.id] for key in (first, second, third)}) == 1
    assert ends(thrice)[fourth.id] is None


async def test_ended_keys_go_with_the_next_rotation(engine: AsyncEngine) -> None:
    """A rotation without grace leaves the new key alone, whatever ends the others had."""
    async with writing(engine) as connection:
        await STORE.add(connection, NewCaller("order-service"), expires_at=END)
        await STORE.rotate_key(connection, "order-service", grace=3_600)
        row, new = await STORE.rotate_key(connection, "order-service")

    assert ends(row) == {new.id: None}


@pytest.mark.parametrize("grace", [-1, 366 * 86_400 + 1, float("nan"), float("inf")])
async def test_a_grace_that_cant_be_is_refused(engine: AsyncEngine, grace: float) -> None:
    """Old keys go on for a year at most, and nothing of the rotation happens otherwise."""
    row, _ = await with_caller(engine)
    with pytest.raises(ParameterInvalid, match="the grace of old keys is 0 to 366 days"):
        async with writing(engine) as connection:
            await STORE.rotate_key(connection, "order-service", grace=grace)

    assert await shown(engine) == row


async def test_a_caller_is_changed_to_what_is_said(engine: AsyncEngine) -> None:
    """A change makes every trait what it says, grants included; name, ID, keys and age stay."""
    await with_tokens(engine, "shop", "store")
    row, _ = await with_caller(engine, "order-service", SHOP, default="shop")
    new = NewCaller(
        "order-service",
        (GrantAsked("store", ("link-orders",)),),
        "store",
        Role.AUDITOR,
        5,
        "10/minute",
        ("10.0.0.0/8", "2001:db8::/32"),
        ("https://shop.example",),
        {"sub": "order-service", "aud": "gateway"},
    )
    async with writing(engine) as connection:
        changed = await STORE.change(connection, new)

    assert changed == await shown(engine)
    assert changed.as_new() == new
    assert (changed.id, changed.keys, changed.created_at) == (row.id, row.keys, row.created_at)


async def test_a_caller_changed_to_itself_is_the_same(engine: AsyncEngine) -> None:
    """`as_new` is all that a caller is made of."""
    await with_tokens(engine, "shop")
    row, _ = await with_caller(
        engine, "order-service", SHOP, default="shop", role=Role.ADMIN, networks=("10.0.0.0/8",), origins=("http://a",), claims={"a": "b"}
    )
    async with writing(engine) as connection:
        assert await STORE.change(connection, row.as_new()) == row


@pytest.mark.parametrize(
    ("traits", "problem"),
    [
        ({"weight": 0}, ParameterInvalid),
        ({"networks": ("10.0.0.1/8",)}, ParameterInvalid),
        ({"default_token": "shop"}, ParameterInvalid),
        ({"grants": (GrantAsked("store"), GrantAsked("none"))}, NotFound),
        ({"name": "none"}, NotFound),
    ],
)
async def test_a_change_that_cant_be_changes_nothing(engine: AsyncEngine, traits: dict[str, Any], problem: type[Exception]) -> None:
    """A change is made whole or not at all."""
    await with_tokens(engine, "shop", "store")
    row, _ = await with_caller(engine, "order-service", GrantAsked("store"), default="store")

    with pytest.raises(problem):
        async with writing(engine) as connection:
            await STORE.change(connection, replace(row.as_new(), **traits))

    assert await shown(engine) == row


async def test_a_caller_is_disabled_and_enabled(engine: AsyncEngine) -> None:
    """A disabled caller is shown as such, with all that it has."""
    row, _ = await with_caller(engine)
    async with writing(engine) as connection:
        off = await STORE.set_enabled(connection, "order-service", enabled=False)
        on = await STORE.set_enabled(connection, "order-service", enabled=True)

    assert off == replace(row, enabled=False)
    assert on == row


async def test_a_caller_is_declared_or_not(engine: AsyncEngine) -> None:
    """Whether a caller stands in the configuration file is shown with it."""
    row, _ = await with_caller(engine)
    async with writing(engine) as connection:
        declared = await STORE.set_declared(connection, "order-service", declared=True)
        free = await STORE.set_declared(connection, "order-service", declared=False)

    assert declared == replace(row, declared=True)
    assert free == row


@pytest.mark.parametrize(
    "text", ["https://shop.example", "http://localhost:3000", "https://10.0.0.1:8443", "http://[::1]:3000", "https://xn--bcher-kva.example"]
)
def test_an_origin_is_what_browsers_send(text: str) -> None:
    """Scheme, host and a port that isn't the scheme's own."""
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "null",
        "shop.example",
        "https://",
        "https://shop.example/",
        "https://shop.example/page",
        "https://Shop.example",
        "https://shop.example:443",
        "http://shop.example:80",
        "http://[::1]:80",
        "https://*.shop.example",
        "https://user@shop.example",
        "ftp://shop.example",
        "https://shop.example\n",
        "https://bücher.example",
    ],
)
def test_another_text_is_no_origin(text: str) -> None:
    """What no browser sends would never match, so it is refused when it is given."""
    assert not is_origin(text)


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
        pytest.param(lambda connection: STORE.change(connection, NewCaller("none")), id="change"),
        pytest.param(lambda connection: STORE.set_enabled(connection, "none", enabled=True), id="enabled"),
        pytest.param(lambda connection: STORE.set_declared(connection, "none", declared=True), id="declared"),
    ],
)
async def test_a_caller_that_is_not_there(engine: AsyncEngine, work: Work) -> None:
    """Whatever is done to a caller that there isn't is refused by its name."""
    await with_tokens(engine, "shop")

    with pytest.raises(NotFound, match="there is no caller of that name"):
        async with writing(engine) as connection:
            await work(connection)


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        pytest.param(lambda connection: STORE.grant(connection, "order-service", GrantAsked("none")), "no token of that name", id="grant"),
        pytest.param(lambda connection: STORE.revoke(connection, "order-service", "none"), "no token of that name", id="revoke"),
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
        pytest.param(lambda connection: STORE.change(connection, NewCaller("order-service")), id="change"),
        pytest.param(lambda connection: STORE.set_enabled(connection, "order-service", enabled=False), id="enabled"),
        pytest.param(lambda connection: STORE.set_declared(connection, "order-service", declared=True), id="declared"),
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
