"""What operators do: each change and its record, together or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.administration import Administration, Resealed
from app.audit import list_records
from app.callers import CallerStore, GrantAsked, NewCaller
from app.domain import Burst, Pacing, Role, TokenKind, TokenValue
from app.errors import Conflict, GatewayError, NotFound, ParameterInvalid, StartRefused
from app.storage import current_revision, reading, writing
from app.vault import Keyring, NewToken, TokenChange
from tests.storage.database import opened

BY = "test:ada"
END = datetime.now(UTC) + timedelta(days=90)
VALUE = "a-token-value-0001"
OTHER_VALUE = "a-token-value-0002"
SHOP = NewToken("shop", TokenKind.ACCOUNT, TokenValue(VALUE))
CALLER = NewCaller("order-service", (GrantAsked("shop"),))

Work = Callable[[Administration], Awaitable[Any]]


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A database of the newest schema."""
    async with opened(database) as engine:
        yield engine


@pytest.fixture
def administration(engine: AsyncEngine) -> Administration:
    """Ada, at work on the database."""
    return Administration(engine, Keyring({"k1": bytes(range(32))}), BY)


async def records(engine: AsyncEngine) -> list[dict[str, Any]]:
    """What is on record, oldest first, but for the chain's opening, and the IDs, times and places that are always there."""
    async with reading(engine) as connection:
        found = (await list_records(connection, limit=100))[::-1]
    assert all(record.pop(member) for record in found for member in ("id", "at", "chain", "seq", "number"))
    return [record for record in found if record["name"] != "chain:opened"]


def recorded(name: str, subject: str, **members: Any) -> dict[str, Any]:
    """A record of Ada's."""
    return {"name": name, "by": BY, "subject": subject} | members


async def test_each_change_of_a_token_is_on_record(engine: AsyncEngine, administration: Administration) -> None:
    """Every change names who made it, and both values of a rotation by their fingerprints."""
    added = await administration.add_token(NewToken("shop", TokenKind.SOURCE, TokenValue(VALUE), 3, Burst.SPACED, Pacing.PROVEN))
    await administration.change_token("shop", TokenChange(TokenKind.CHANNEL, rate=5))
    rotated = await administration.rotate_token("shop", TokenValue(OTHER_VALUE))
    await administration.set_token_enabled("shop", enabled=False)
    await administration.set_token_enabled("shop", enabled=True)
    removed = await administration.remove_token("shop")

    source = {"kind": "source", "rate": 3, "burst": "spaced", "pacing": "proven"}
    channel = source | {"kind": "channel", "rate": 5}
    assert await records(engine) == [
        recorded("token:added", "shop", after=source | {"enabled": True, "fingerprint": added.fingerprint}),
        recorded("token:changed", "shop", before=source, after=channel),
        recorded("token:rotated", "shop", before=added.fingerprint, after=rotated.fingerprint),
        recorded("token:disabled", "shop", before=True, after=False),
        recorded("token:enabled", "shop", before=False, after=True),
        recorded("token:removed", "shop", before=channel | {"enabled": True, "fingerprint": rotated.fingerprint}),
    ]
    assert removed == rotated


async def test_a_removed_tokens_grants_end_on_record(engine: AsyncEngine, administration: Administration) -> None:
    """Each caller that could use the token has a record of its own of what it lost."""
    await administration.add_token(SHOP)
    await administration.add_token(NewToken("store", TokenKind.ACCOUNT, TokenValue(OTHER_VALUE)))
    await administration.add_caller(NewCaller("a", (GrantAsked("shop"), GrantAsked("store")), "shop"))
    await administration.add_caller(NewCaller("b", (GrantAsked("store"),)))

    await administration.remove_token("shop")

    found = await records(engine)
    assert found[-2] == recorded("caller:revoked", "a", before=["shop", "store"], after=["store"])
    assert found[-1]["name"] == "token:removed"
    assert len(found) == 6
    assert (await administration.caller("a")).default_token is None


async def test_a_change_leaves_what_it_doesnt_name(administration: Administration) -> None:
    """A token keeps its value, its lane, its version and every trait that a change doesn't give."""
    before = (await administration.add_token(NewToken("shop", TokenKind.SOURCE, TokenValue(VALUE), 3, Burst.SPACED, Pacing.PROVEN))).token

    after = (await administration.change_token("shop", TokenChange(burst=Burst.WINDOW))).token

    assert after == replace(before, burst=Burst.WINDOW)


async def test_sealing_anew_is_on_record(engine: AsyncEngine, administration: Administration) -> None:
    """By the key's ID and how many rows came under it; where nothing was left to do, nothing is recorded."""
    await administration.add_token(SHOP)
    both = Administration(engine, Keyring({"k2": bytes(32), "k1": bytes(range(32))}), BY)

    first, again = await both.reseal(), await both.reseal()

    assert (first, again) == (Resealed("k2", 3, 0), Resealed("k2", 0, 3))
    assert (await records(engine))[1:] == [recorded("vault:resealed", "vault", key_id="k2", count=3)]
    assert [(use.id, use.tokens, use.keys) for use in await both.key_uses()] == [("k2", 1, 2), ("k1", 0, 0)]


async def test_keys_that_dont_open_everything_reseal_nothing(engine: AsyncEngine, administration: Administration) -> None:
    """What can't be opened is named, and nothing is changed or recorded."""
    await administration.add_token(SHOP)
    before = await records(engine)

    with pytest.raises(StartRefused, match=r"these tokens don.t open with the master keys that are here: shop$"):
        await Administration(engine, Keyring({"k2": bytes(32)}), BY).reseal()

    assert await records(engine) == before
    assert await administration.tokens()


async def test_each_change_of_a_caller_is_on_record(engine: AsyncEngine, administration: Administration) -> None:
    """Every change names who made it; keys stand by their IDs, grants as they were and as they are."""
    await administration.add_token(SHOP)
    new = NewCaller("order-service", (GrantAsked("shop"),), None, Role.ADMIN, 2, "5/second", ("10.0.0.0/8",), ("https://a",), {"sub": "a"})
    made, first = await administration.add_caller(new, expires_at=END)
    await administration.grant("order-service", GrantAsked("shop", ("link-orders",)))
    await administration.revoke("order-service", "shop")
    rotated, second = await administration.rotate_key("order-service", grace=3_600, expires_at=END)
    await administration.rotate_key("order-service")
    await administration.set_caller_enabled("order-service", enabled=False)
    await administration.set_caller_enabled("order-service", enabled=True)
    await administration.remove_caller("order-service")

    found = (await records(engine))[1:]
    third = found[4]["credential_id"]
    end, until = made.keys[0].expires_at, rotated.keys[0].expires_at
    traits = {"networks": ["10.0.0.0/8"], "origins": ["https://a"], "claims": ["sub=a"]}
    added = {"credential_id": first.id, "expires_at": end, "role": "admin", "weight": 2, "rate": "5/second", "grants": ["shop"]} | traits
    overlap = [f"{first.id} until {until}", f"{second.id} until {end}"]
    assert found == [
        recorded("caller:added", "order-service", **added),
        recorded("caller:granted", "order-service", before=["shop"], after=["shop:link-orders"]),
        recorded("caller:revoked", "order-service", before=["shop:link-orders"], after=[]),
        recorded(
            "caller:key-rotated",
            "order-service",
            credential_id=second.id,
            expires_at=end,
            before=[f"{first.id} until {end}"],
            after=overlap,
        ),
        recorded("caller:key-rotated", "order-service", credential_id=third, before=overlap, after=[third]),
        recorded("caller:disabled", "order-service"),
        recorded("caller:enabled", "order-service"),
        recorded("caller:removed", "order-service"),
    ]
    assert not any(secret in str(found) for secret in (VALUE, first.secret, second.secret))


async def test_a_change_of_a_caller_is_on_record_with_what_changed(engine: AsyncEngine, administration: Administration) -> None:
    """The record names each trait that changed, as it was and as it is, and nothing that stayed."""
    await administration.add_token(SHOP)
    made, _ = await administration.add_caller(NewCaller("order-service", (GrantAsked("shop"),), None, Role.ADMIN, 2))
    changed = NewCaller("order-service", (GrantAsked("shop"),), "shop", None, 2, "5/second", ("10.0.0.0/8", "fd00::/8"))
    row = await administration.change_caller(changed)
    await administration.change_caller(changed)

    assert row.as_new() == changed
    assert row.keys == made.keys
    assert (await records(engine))[2:] == [
        recorded(
            "caller:changed",
            "order-service",
            before=["role=admin", "rate=", "default_token=", "networks="],
            after=["role=", "rate=5/second", "default_token=shop", "networks=10.0.0.0/8 fd00::/8"],
        ),
        recorded("caller:changed", "order-service", before=[], after=[]),
    ]


@pytest.mark.parametrize(
    "work",
    [
        lambda ada: ada.change_caller(NewCaller("order-service")),
        lambda ada: ada.set_caller_enabled("order-service", enabled=False),
        lambda ada: ada.rotate_key("order-service"),
        lambda ada: ada.grant("order-service", GrantAsked("shop")),
        lambda ada: ada.revoke("order-service", "shop"),
        lambda ada: ada.remove_caller("order-service"),
    ],
)
async def test_a_declared_caller_is_changed_in_the_file_only(engine: AsyncEngine, administration: Administration, work: Work) -> None:
    """What the configuration file declares nobody changes elsewhere; the refusal says where."""
    await administration.add_token(SHOP)
    await administration.add_caller(CALLER)
    async with writing(engine) as connection:
        await CallerStore().set_declared(connection, "order-service", declared=True)
    before = await administration.callers(), await records(engine)

    with pytest.raises(Conflict, match="order-service is declared in the configuration file; change it there"):
        await work(administration)

    assert (await administration.callers(), await records(engine)) == before


async def test_reading_leaves_no_record(engine: AsyncEngine, administration: Administration) -> None:
    """Tokens and callers are shown as they were changed last, and showing changes nothing."""
    token = await administration.add_token(SHOP)
    caller, _ = await administration.add_caller(CALLER)
    before = await records(engine)

    assert await administration.tokens() == [token]
    assert await administration.token("shop") == token
    assert await administration.callers() == [caller]
    assert await administration.caller("order-service") == caller
    assert await records(engine) == before


REFUSED: list[tuple[Work, type[GatewayError]]] = [
    (lambda ada: ada.add_token(SHOP), Conflict),
    (lambda ada: ada.add_token(NewToken("other", TokenKind.ACCOUNT, TokenValue(VALUE))), Conflict),
    (lambda ada: ada.add_token(NewToken("other", TokenKind.ACCOUNT, TokenValue("short"))), ParameterInvalid),
    (lambda ada: ada.change_token("none", TokenChange(rate=1)), NotFound),
    (lambda ada: ada.change_token("shop", TokenChange(rate=0)), ParameterInvalid),
    (lambda ada: ada.change_token("shop", TokenChange(rate=1_001)), ParameterInvalid),
    (lambda ada: ada.change_token("shop", TokenChange()), ParameterInvalid),
    (lambda ada: ada.rotate_token("none", TokenValue(OTHER_VALUE)), NotFound),
    (lambda ada: ada.rotate_token("shop", TokenValue("short")), ParameterInvalid),
    (lambda ada: ada.set_token_enabled("none", enabled=False), NotFound),
    (lambda ada: ada.remove_token("none"), NotFound),
    (lambda ada: ada.token("none"), NotFound),
    (lambda ada: ada.add_caller(CALLER), Conflict),
    (lambda ada: ada.add_caller(NewCaller("other", (GrantAsked("shop"), GrantAsked("none")))), NotFound),
    (lambda ada: ada.add_caller(NewCaller("other", weight=0)), ParameterInvalid),
    (lambda ada: ada.grant("none", GrantAsked("shop")), NotFound),
    (lambda ada: ada.grant("order-service", GrantAsked("none")), NotFound),
    (lambda ada: ada.revoke("order-service", "none"), NotFound),
    (lambda ada: ada.rotate_key("none"), NotFound),
    (lambda ada: ada.rotate_key("order-service", grace=-1), ParameterInvalid),
    (lambda ada: ada.rotate_key("order-service", expires_at=datetime.now(UTC)), ParameterInvalid),
    (lambda ada: ada.add_caller(NewCaller("other"), expires_at=datetime.now(UTC)), ParameterInvalid),
    (lambda ada: ada.change_caller(NewCaller("none")), NotFound),
    (lambda ada: ada.change_caller(NewCaller("order-service", (GrantAsked("none"),))), NotFound),
    (lambda ada: ada.change_caller(NewCaller("order-service", weight=0)), ParameterInvalid),
    (lambda ada: ada.set_caller_enabled("none", enabled=False), NotFound),
    (lambda ada: ada.remove_caller("none"), NotFound),
    (lambda ada: ada.caller("none"), NotFound),
]


@pytest.mark.parametrize(("work", "problem"), REFUSED)
async def test_a_refused_change_leaves_nothing(
    engine: AsyncEngine, administration: Administration, work: Work, problem: type[GatewayError]
) -> None:
    """What is refused changes neither rows nor the revision, and isn't on record as done."""

    async def everything() -> tuple[object, ...]:
        async with reading(engine) as connection:
            revision = await current_revision(connection)
        return revision, await administration.tokens(), await administration.callers(), await records(engine)

    await administration.add_token(SHOP)
    await administration.add_caller(CALLER)
    before = await everything()

    with pytest.raises(problem):
        await work(administration)

    assert await everything() == before


CHANGES: list[Work] = [
    lambda ada: ada.add_token(NewToken("store", TokenKind.ACCOUNT, TokenValue(OTHER_VALUE))),
    lambda ada: ada.change_token("shop", TokenChange(rate=5)),
    lambda ada: ada.rotate_token("shop", TokenValue(OTHER_VALUE)),
    lambda ada: ada.set_token_enabled("shop", enabled=False),
    lambda ada: ada.remove_token("shop"),
    lambda ada: ada.add_caller(NewCaller("other", (GrantAsked("shop"),))),
    lambda ada: ada.grant("order-service", GrantAsked("shop", ("link-orders",))),
    lambda ada: ada.revoke("order-service", "shop"),
    lambda ada: ada.rotate_key("order-service"),
    lambda ada: ada.rotate_key("order-service", grace=3_600),
    lambda ada: ada.change_caller(NewCaller("order-service", weight=2)),
    lambda ada: ada.set_caller_enabled("order-service", enabled=False),
    lambda ada: ada.remove_caller("order-service"),
]


@pytest.mark.parametrize("work", CHANGES)
async def test_what_cant_be_recorded_isnt_done(engine: AsyncEngine, administration: Administration, work: Work) -> None:
    """A change whose record can't be written doesn't happen: the record comes in the same transaction."""
    await administration.add_token(SHOP)
    await administration.add_caller(CALLER)
    before = (await administration.tokens(), await administration.callers())
    async with writing(engine) as connection:
        await connection.exec_driver_sql("DROP TABLE audit_records")

    with pytest.raises(SQLAlchemyError):
        await work(administration)

    assert (await administration.tokens(), await administration.callers()) == before
