"""Which pages may call, for every kind of credential."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import Directory, NewCaller, Origins
from app.callers.origins import check_origin
from app.domain import Caller, CredentialKind
from app.errors import OriginNotAllowed
from app.storage import writing

from .database import STORE, loaded

SHOP = "https://shop.example"
DESK = "https://desk.example:8443"
BY_KEY = Caller("caller-1", "order-service", "key-1")
BY_JWT = replace(BY_KEY, credential=CredentialKind.JWT)
BY_TICKET = replace(BY_KEY, credential=CredentialKind.TICKET)
ELSEWHERE = [
    ["null"],
    [""],
    ["https://evil.example"],
    ["http://shop.example"],
    ["https://shop.example:443"],
    ["https://shop.example/"],
    ["https://SHOP.example"],
    ["https://shop.example.evil.example"],
    ["https://sub.shop.example"],
    ["https://shop.example https://evil.example"],
    [SHOP, SHOP],
    [SHOP, "https://evil.example"],
]


def allows(caller: Caller, given: list[str], host: str | None = "gateway.example:8080") -> bool:
    """Whether a request with these values of `Origin` is let in, where the shop's pages may call."""
    try:
        check_origin(caller, given, allowed=frozenset({SHOP}), host=host)
    except OriginNotAllowed:
        return False
    return True


@pytest.mark.parametrize("caller", [BY_KEY, BY_JWT], ids=["key", "jwt"])
def test_a_service_needs_no_origin(caller: Caller) -> None:
    """A request without `Origin` is no page's, so a key or a JWT of the provider is enough."""
    assert allows(caller, [])


def test_a_ticket_needs_its_origin() -> None:
    """A ticket without `Origin` was taken out of its page."""
    assert not allows(BY_TICKET, [])


@pytest.mark.parametrize("caller", [BY_KEY, BY_JWT, BY_TICKET], ids=["key", "jwt", "ticket"])
def test_a_page_of_an_allowed_origin_may_call(caller: Caller) -> None:
    """The very origin, once, is let in."""
    assert allows(caller, [SHOP])


@pytest.mark.parametrize("caller", [BY_KEY, BY_JWT, BY_TICKET], ids=["key", "jwt", "ticket"])
@pytest.mark.parametrize("given", ELSEWHERE, ids=str)
def test_origins_are_exact(caller: Caller, given: list[str]) -> None:
    """Another scheme, port, case or host, a list, `null`, or the header twice is another origin."""
    assert not allows(caller, given)


@pytest.mark.parametrize("origin", ["http://gateway.example:8080", "https://gateway.example:8080"])
def test_the_gateways_own_pages_may_call_with_a_key(origin: str) -> None:
    """The documentation's "try it" is a page of the host that the request is for; a ticket of another page is no good there."""
    assert allows(BY_KEY, [origin])
    assert allows(BY_JWT, [origin])
    assert not allows(BY_TICKET, [origin])


@pytest.mark.parametrize("host", [None, "", "gateway.example", "null"])
def test_another_port_is_not_the_gateways_own(host: str | None) -> None:
    """Host and port must both be the request's."""
    assert not allows(BY_KEY, ["http://gateway.example:8080"], host)
    assert not allows(BY_KEY, ["null"], host)


def test_an_endless_host_is_not_the_gateways_own() -> None:
    """Every call's record holds its origin, so that nobody may fill the disk with one."""
    name = "a" * 300

    assert not allows(BY_KEY, [f"http://{name}"], name)


async def directory_of(engine: AsyncEngine, *new: NewCaller) -> Directory:
    """A directory of these callers."""
    async with writing(engine) as connection:
        for one in new:
            await STORE.add(connection, one)
    return await loaded(engine)


def named(directory: Directory, name: str) -> Caller:
    """The caller of that name."""
    return next(known.caller for known in directory.known if known.caller.name == name)


async def test_a_callers_own_origins_stand_in_place_of_the_gateways(engine: AsyncEngine) -> None:
    """A caller without origins has the gateway's list; one with some has those alone."""
    directory = await directory_of(engine, NewCaller("plain"), NewCaller("desk", origins=[DESK]))
    origins = Origins(directory, frozenset({SHOP}))

    origins.check(named(directory, "plain"), [SHOP], None)
    origins.check(named(directory, "desk"), [DESK], None)
    with pytest.raises(OriginNotAllowed):
        origins.check(named(directory, "desk"), [SHOP], None)
    with pytest.raises(OriginNotAllowed):
        origins.check(named(directory, "plain"), [DESK], None)


async def test_without_any_origin_configured_no_page_may_call(engine: AsyncEngine) -> None:
    """Nothing configured means none, not all."""
    directory = await directory_of(engine, NewCaller("plain"))
    origins = Origins(directory, frozenset())

    assert not origins.known(SHOP)
    with pytest.raises(OriginNotAllowed):
        origins.check(named(directory, "plain"), [SHOP], None)


async def test_known_are_the_gateways_origins_and_those_of_enabled_callers(engine: AsyncEngine) -> None:
    """A preflight from a page of any caller's is known, until that caller is disabled."""
    directory = await directory_of(engine, NewCaller("desk", origins=[DESK]))
    origins = Origins(directory, frozenset({SHOP}))
    before = [origins.known(one) for one in (SHOP, DESK, "null", "https://evil.example")]
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "desk", enabled=False)
    await loaded(engine, directory)

    assert before == [True, True, False, False]
    assert [origins.known(one) for one in (SHOP, DESK)] == [True, False]
