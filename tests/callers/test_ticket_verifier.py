"""Who a ticket proves, for how long, and what of it is left when its caller loses something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.callers import (
    CallerRow,
    Directory,
    GatewayKey,
    GrantAsked,
    HashedKey,
    HashedKeyStore,
    Jwt,
    NewCaller,
    Origins,
    TicketVerifier,
)
from app.domain import Caller, CredentialKind, Grant, Role, TokenRef
from app.errors import CredentialsInvalid, OriginNotAllowed
from app.storage import writing

from .database import STORE, loaded, with_caller, with_tokens
from .tickets import KEY, NOW, SHOP, made

Change = Callable[[AsyncConnection], Awaitable[object]]


@dataclass
class Known:
    """A caller, and a ticket of its page; `ahead` are seconds by which the directory's clock is."""

    engine: AsyncEngine
    directory: Directory
    row: CallerRow
    token: TokenRef
    key: GatewayKey
    ahead: list[float]
    now: float = NOW + 1
    shared: frozenset[str] = frozenset()
    terms: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        basis = self.directory.prove(self.key).basis
        self.terms = {"caller_id": self.row.id, "token_id": self.token.id, "basis": basis}

    async def prove(self, **given: Any) -> Caller:
        """The caller that its ticket proves now."""
        return await self.verifier().verify(Jwt(KEY.sign(made(**(self.terms | given)))))

    def verifier(self) -> TicketVerifier:
        """Who can tell whose a ticket is."""
        return TicketVerifier(KEY, self.directory, Origins(self.directory, self.shared), lambda: self.now)

    async def may_call(self) -> bool:
        """Whether its page may call with its ticket now."""
        caller = await self.prove()
        try:
            Origins(self.directory, self.shared).check(caller, [SHOP], None)
        except OriginNotAllowed:
            return False
        return True

    async def after(self, change: Change) -> None:
        """Change something, and let the directory see it."""
        async with writing(self.engine) as connection:
            await change(connection)
        await loaded(self.engine, self.directory)


async def known(engine: AsyncEngine, *grants: GrantAsked, origins: Sequence[str] = (SHOP, "https://other.example"), **traits: Any) -> Known:
    """A caller with a role, a weight and a rate, that may use two tokens unless told otherwise."""
    tokens = await with_tokens(engine, "shop", "store")
    new = NewCaller(
        "order-service", grants or (GrantAsked("shop"), GrantAsked("store")), "store", Role.ADMIN, 7, "5/second", origins=origins, **traits
    )
    async with writing(engine) as connection:
        row, key = await STORE.add(connection, new)
    ahead = [0.0]
    directory = Directory(lambda: datetime.now(UTC).timestamp() + ahead[0])
    return Known(engine, await loaded(engine, directory), row, tokens["shop"], key, ahead)


async def test_a_ticket_proves_its_caller_narrowed_to_its_terms(engine: AsyncEngine) -> None:
    """One token, the operations named, one origin, no role; weight and rate, and so its turns, are the caller's."""
    one = await known(engine)

    caller = await one.prove()

    assert caller == Caller(
        id=one.row.id,
        name="order-service",
        credential_id=f"ticket:{made().id}",
        grants=(Grant(one.token.id, "shop", frozenset({"link-orders"})),),
        default_token_id=one.token.id,
        role=None,
        weight=7,
        rate="5/second",
        credential=CredentialKind.TICKET,
        origins=frozenset({SHOP}),
        expires_at=NOW + 300,
    )


async def test_a_ticket_for_ids_carries_them(engine: AsyncEngine) -> None:
    """The caller may give only those, for their parameter."""
    caller = await (await known(engine)).prove(parameter="orderIds", ids=(1, 2))

    assert (caller.only_parameter, caller.only_ids) == ("orderIds", frozenset({1, 2}))


@pytest.mark.parametrize(
    ("now", "good"),
    [(NOW - 31, False), (NOW - 30, True), (NOW, True), (NOW + 299.999, True), (NOW + 300, False), (NOW + 301, False)],
)
async def test_a_ticket_is_good_from_its_making_to_its_end(engine: AsyncEngine, now: float, good: bool) -> None:  # noqa: FBT001 - a column of the table
    """It ends to the second; before its making only as far as two replicas' clocks may differ."""
    one = await known(engine)
    one.now = now

    if good:
        assert (await one.prove()).id == one.row.id
    else:
        with pytest.raises(CredentialsInvalid):
            await one.prove()


async def test_a_tickets_signature_is_verified_once(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ticket again costs no signature; its time, what it rests on and its origin are looked at each time."""
    one = await known(engine)
    verifier, ticket = one.verifier(), Jwt(KEY.sign(made(**one.terms)))
    first = await verifier.verify(ticket)
    monkeypatch.setattr(KEY, "read", None)
    again = await verifier.verify(ticket)
    await one.after(lambda it: STORE.change(it, replace(one.row.as_new(), origins=("https://desk.example",))))
    moved = await verifier.verify(ticket)
    one.now = NOW + 300
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(ticket)
    one.now = NOW
    await one.after(lambda connection: STORE.rotate_key(connection, "order-service"))
    with pytest.raises(CredentialsInvalid):
        await verifier.verify(ticket)

    assert first == again
    assert (first.origins, moved.origins) == (frozenset({SHOP}), frozenset())


async def test_nothing_is_kept_of_a_ticket_that_was_refused(engine: AsyncEngine) -> None:
    """A forgery is refused however often it comes, also after the ticket that it was made from."""
    one = await known(engine)
    verifier, ticket = one.verifier(), KEY.sign(made(**one.terms))
    await verifier.verify(Jwt(ticket))

    for _ in range(2):
        with pytest.raises(CredentialsInvalid):
            await verifier.verify(Jwt(ticket[:-8] + "AAAAAAAA"))


async def test_a_ticket_of_nobody_proves_nobody(engine: AsyncEngine) -> None:
    """A caller that never was is as good as one that is gone."""
    with pytest.raises(CredentialsInvalid):
        await (await known(engine)).prove(caller_id="caller-2")


@pytest.mark.parametrize(
    "change",
    [lambda connection: STORE.remove(connection, "order-service"), lambda it: STORE.set_enabled(it, "order-service", enabled=False)],
    ids=["removed", "disabled"],
)
async def test_a_ticket_dies_with_its_caller(engine: AsyncEngine, change: Change) -> None:
    """Removing or disabling the caller ends its tickets."""
    one = await known(engine)
    await one.after(change)

    with pytest.raises(CredentialsInvalid):
        await one.prove()


async def test_a_disabled_callers_ticket_lives_again_with_its_caller(engine: AsyncEngine) -> None:
    """Its time goes on meanwhile."""
    one = await known(engine)
    await one.after(lambda connection: STORE.set_enabled(connection, "order-service", enabled=False))
    await one.after(lambda connection: STORE.set_enabled(connection, "order-service", enabled=True))

    assert (await one.prove()).id == one.row.id


async def test_a_ticket_ends_with_the_key_that_it_was_asked_with(engine: AsyncEngine) -> None:
    """Whoever stole a key keeps nothing of it after its rotation; tickets of the caller's other keys go on."""
    one = await known(engine)
    async with writing(engine) as connection:
        _, new = await STORE.rotate_key(connection, "order-service", grace=3_600)
    await loaded(engine, one.directory)
    other = one.directory.prove(new).basis
    await one.after(lambda connection: HashedKeyStore().remove(connection, one.key.id))

    with pytest.raises(CredentialsInvalid):
        await one.prove()
    assert (await one.prove(basis=other)).id == one.row.id


async def test_a_ticket_goes_on_while_its_key_is_in_its_grace(engine: AsyncEngine) -> None:
    """Keys are replaced in the ordinary course; that breaks no page, until the old key's grace is over."""
    one = await known(engine)
    await one.after(lambda connection: STORE.rotate_key(connection, "order-service", grace=3_600))
    during = await one.prove()
    one.ahead[0] = 3_601

    assert during.id == one.row.id
    with pytest.raises(CredentialsInvalid):
        await one.prove()


async def test_a_key_with_another_secret_is_another_key(engine: AsyncEngine) -> None:
    """A hash that is exchanged under its ID, as a configuration file can, ends the old secret's tickets."""
    one = await known(engine)

    async def exchange(connection: AsyncConnection) -> None:
        await HashedKeyStore().remove(connection, one.key.id)
        await HashedKeyStore().add(connection, one.row.id, HashedKey(one.key.id, bytes(32)))

    await one.after(exchange)

    with pytest.raises(CredentialsInvalid):
        await one.prove()


async def test_a_ticket_of_another_callers_key_proves_nobody(engine: AsyncEngine) -> None:
    """What it rests on must be its own caller's."""
    one = await known(engine)
    other, _ = await with_caller(engine, "other")
    await loaded(engine, one.directory)

    with pytest.raises(CredentialsInvalid):
        await one.prove(caller_id=other.id)


@pytest.mark.parametrize(
    ("claims", "good"),
    [({"azp": "shop", "role": "linker"}, True), ({"role": "linker", "azp": "shop"}, True), ({"azp": "shop"}, False), ({}, False)],
    ids=["the same", "in another order", "wider", "none"],
)
async def test_a_ticket_that_a_jwt_got_ends_with_the_callers_claims(engine: AsyncEngine, claims: dict[str, str], good: bool) -> None:  # noqa: FBT001 - a column of the table
    """The JWT was the caller's by its claims; when the caller declares others, it may be somebody else's. The keys don't matter to it."""
    one = await known(engine, claims={"azp": "shop", "role": "linker"})
    [declared] = one.directory.known
    one.terms["basis"] = declared.caller.basis
    await one.after(lambda connection: STORE.rotate_key(connection, "order-service"))
    await one.prove()
    await one.after(lambda it: STORE.change(it, replace(one.row.as_new(), claims=claims)))

    if good:
        assert (await one.prove()).id == one.row.id
    else:
        with pytest.raises(CredentialsInvalid):
            await one.prove()


async def test_a_ticket_loses_what_is_taken_from_its_caller(engine: AsyncEngine) -> None:
    """A revoked token is gone from the ticket; so is an operation, and one that is added isn't there."""
    one = await known(engine, GrantAsked("shop", ("link-orders", "other")), GrantAsked("store"))
    both = {"operations": ("link-orders", "other")}
    before = await one.prove(**both)
    await one.after(lambda connection: STORE.grant(connection, "order-service", GrantAsked("shop", ("other", "third"))))
    narrowed = await one.prove(**both)
    await one.after(lambda connection: STORE.revoke(connection, "order-service", "shop"))
    revoked = await one.prove(**both)

    assert before.grants[0].operations == frozenset({"link-orders", "other"})
    assert narrowed.grants == (replace(before.grants[0], operations=frozenset({"other"})),)
    assert revoked.grants == ()


async def test_a_ticket_never_gains_what_its_caller_gains(engine: AsyncEngine) -> None:
    """A grant for all operations, a role and further tokens stay the caller's."""
    one = await known(engine)
    caller = await one.prove(operations=("other",))

    assert caller.grants == (Grant(one.token.id, "shop", frozenset({"other"})),)
    assert caller.role is None


async def test_a_ticket_ends_where_its_origin_is_taken_from_its_caller(engine: AsyncEngine) -> None:
    """The caller's present origins count; the gateway's list where it has none."""
    one = await known(engine)
    await one.after(lambda it: STORE.change(it, replace(one.row.as_new(), origins=("https://desk.example",))))
    moved = await one.may_call()
    await one.after(lambda it: STORE.change(it, replace(one.row.as_new(), origins=())))
    none = await one.may_call()
    one.shared = frozenset({SHOP})

    assert (moved, none) == (False, False)
    assert await one.may_call()
    assert (await one.prove()).has_listed_origin
