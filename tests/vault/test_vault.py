"""The tokens that a running server knows."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.catalogue import load_catalogue
from app.domain import Caller, Grant, Operation, TokenKind, TokenRef, TokenValue
from app.errors import (
    OperationNotGranted,
    StartRefused,
    TokenAmbiguous,
    TokenKindNotAccepted,
    TokenNotGranted,
    TokenUnavailable,
)
from app.settings import SHIPPED_CATALOGUE
from app.storage import reading, writing
from app.storage.tables import tokens
from app.vault import Keyring, TokenStore, Vault, check_sealed

from .tokens import KEYRING, new_token

LINK: Operation = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]
STORE = TokenStore(KEYRING)


async def loaded(engine: AsyncEngine, vault: Vault | None = None) -> Vault:
    """A vault that knows the database's tokens as of now."""
    vault = vault or Vault(KEYRING)
    async with reading(engine) as connection:
        await vault.load(connection)
    return vault


async def added(engine: AsyncEngine, *names: str, kind: TokenKind = TokenKind.ACCOUNT) -> dict[str, TokenRef]:
    """Tokens in the database, by name."""
    async with writing(engine) as connection:
        return {name: (await STORE.add(connection, new_token(name, f"value-of-token-{name}", kind=kind))).token for name in names}


def caller(*grants: Grant, default: TokenRef | None = None) -> Caller:
    """A caller with these grants."""
    return Caller("c", "order-service", "k", grants, default.id if default else None)


def grant(token: TokenRef, *operations: str) -> Grant:
    """A grant of a token, for all operations or for those named."""
    return Grant(token.id, token.name, frozenset(operations) or None)


# --- load and open


async def test_a_loaded_token_opens(engine: AsyncEngine) -> None:
    """The vault gives every token that is in the database, and its value."""
    held = await added(engine, "shop", "store")

    vault = await loaded(engine)

    assert {token.name: token for token in vault.tokens} == held
    token, value = vault.open(held["shop"].id)
    assert (token, value.reveal()) == (held["shop"], "value-of-token-shop")


async def test_an_empty_vault_opens_nothing() -> None:
    """Before its first load the vault knows no token."""
    vault = Vault(KEYRING)

    assert vault.tokens == []
    with pytest.raises(TokenUnavailable):
        vault.open("any")


async def test_another_master_key_is_told_by_the_tokens_names(engine: AsyncEngine) -> None:
    """Tokens that don't open are known by name, opened never, and no value is told."""
    held = await added(engine, "shop", "store")

    with capture_logs() as logs:
        vault = await loaded(engine, Vault(Keyring({"k2": bytes(32)})))
        await loaded(engine, vault)

    assert vault.closed == ["shop", "store"]
    assert [line["tokens"] for line in logs] == [["shop", "store"]]
    with pytest.raises(TokenUnavailable, match="the token shop doesn't open with the master keys that this gateway has"):
        vault.open(held["shop"].id)


async def test_one_that_doesnt_open_holds_back_no_change_of_another(engine: AsyncEngine) -> None:
    """When one token has come that doesn't open, the others are used, changed and disabled as before."""
    held = await added(engine, "shop", "mart")
    vault = await loaded(engine)
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "shop", enabled=False)
        await STORE.add(connection, new_token("store", "value-of-token-store"))
        await connection.execute(update(tokens).where(tokens.c.name == "store").values(sealed=b"nothing that was sealed"))

    await loaded(engine, vault)

    assert vault.closed == ["store"]
    assert vault.open(held["mart"].id)[1].reveal() == "value-of-token-mart"
    with pytest.raises(TokenUnavailable):
        vault.open(held["shop"].id)


async def test_a_value_is_known_without_being_opened(engine: AsyncEngine) -> None:
    """Just the values of the tokens that are there, disabled or not, are known as such, and none before there are tokens."""
    none = await loaded(engine)
    await added(engine, "shop", "store")
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "shop", enabled=False)
        await STORE.rotate(connection, "store", TokenValue("another-value-of-token-store"))
    vault = await loaded(engine)
    texts = ["value-of-token-shop", "value-of-token-store", "another-value-of-token-store", "value-of-token-shop-", "short", "", "ä" * 20]

    assert [none.is_value(text) for text in texts] == [False] * 7
    assert [vault.is_value(text) for text in texts] == [True, False, True, False, False, False, False]


async def test_a_value_that_was_replaced_stays_known(engine: AsyncEngine) -> None:
    """It may be good at Flxpoint for a while, so a vault that held it knows it until its end, also when the token is gone."""
    await added(engine, "shop")
    vault = await loaded(engine)
    async with writing(engine) as connection:
        await STORE.rotate(connection, "shop", TokenValue("another-value-of-token-shop"))
    await loaded(engine, vault)
    async with writing(engine) as connection:
        await STORE.remove(connection, "shop")
    await loaded(engine, vault)

    assert vault.is_value("value-of-token-shop")
    assert vault.is_value("another-value-of-token-shop")


async def test_without_the_fingerprints_key_nothing_is_let_through(engine: AsyncEngine) -> None:
    """Where it can't be told which texts are values, all that have a value's form are taken for values."""
    await added(engine, "shop")
    vault = await loaded(engine, Vault(Keyring({"k2": bytes(32)})))

    assert vault.is_value("no-value-of-any-token")
    assert not vault.is_value("short")


@pytest.mark.parametrize("column", ["sealed and all", "id", "name"])
async def test_a_row_copied_onto_another_doesnt_open(engine: AsyncEngine, column: str) -> None:
    """Who can write the database still can't have one token's value sent in another's name."""
    held = await added(engine, "shop", "store")
    async with writing(engine) as connection:
        shop = (await connection.execute(select(tokens).where(tokens.c.name == "shop"))).mappings().one()
        changed = {"sealed": shop["sealed"], "nonce": shop["nonce"], "key_id": shop["key_id"]}
        if column != "sealed and all":
            changed = {column: "moved"}
        await connection.execute(update(tokens).where(tokens.c.id == held["store"].id).values(changed))

    async with reading(engine) as connection:
        with pytest.raises(StartRefused, match=r"these tokens don't open with the master keys that are here: (store|moved)$"):
            await check_sealed(connection, KEYRING)
    assert (await loaded(engine)).closed in (["store"], ["moved"])


async def test_a_disabled_token_doesnt_open(engine: AsyncEngine) -> None:
    """A token that was disabled while a call waited isn't sent, and opens again once it is enabled."""
    token = (await added(engine, "shop"))["shop"]
    vault = await loaded(engine)
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "shop", enabled=False)
    await loaded(engine, vault)

    with pytest.raises(TokenUnavailable, match="disabled or removed while the call waited"):
        vault.open(token.id)

    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "shop", enabled=True)
    await loaded(engine, vault)
    assert vault.open(token.id)[1].reveal() == "value-of-token-shop"


async def test_a_removed_token_doesnt_open(engine: AsyncEngine) -> None:
    """A token that was removed while a call waited isn't sent, not even if another took its name."""
    token = (await added(engine, "shop"))["shop"]
    vault = await loaded(engine)
    async with writing(engine) as connection:
        await STORE.remove(connection, "shop")
    await added(engine, "shop")
    await loaded(engine, vault)

    with pytest.raises(TokenUnavailable):
        vault.open(token.id)


async def test_a_rotated_token_opens_with_its_new_value(engine: AsyncEngine) -> None:
    """A call that waited through a rotation goes with the new value, in the next version."""
    token = (await added(engine, "shop"))["shop"]
    vault = await loaded(engine)
    async with writing(engine) as connection:
        await STORE.rotate(connection, "shop", TokenValue("value-of-token-shop-anew"))
    await loaded(engine, vault)

    now, value = vault.open(token.id)

    assert (now.id, now.version, value.reveal()) == (token.id, 2, "value-of-token-shop-anew")


async def test_a_master_key_may_be_replaced_step_by_step(engine: AsyncEngine) -> None:
    """With a new key before the old one, old tokens open and new values are sealed under the new key."""
    held = await added(engine, "shop", "store")
    both = Keyring({"k2": bytes(32), "k1": bytes(range(32))})
    async with writing(engine) as connection:
        await TokenStore(both).rotate(connection, "store", TokenValue("value-of-token-store-anew"))
        rows = (await connection.execute(select(tokens.c.name, tokens.c.key_id).order_by(tokens.c.name))).all()

    vault = await loaded(engine, Vault(both))

    assert [(name, key_id) for name, key_id in rows] == [("shop", "k1"), ("store", "k2")]
    assert vault.open(held["shop"].id)[1].reveal() == "value-of-token-shop"
    assert vault.open(held["store"].id)[1].reveal() == "value-of-token-store-anew"


# --- choose


async def test_the_wanted_token_is_chosen(engine: AsyncEngine) -> None:
    """A call that names one of its tokens goes with that one, whatever the default."""
    held = await added(engine, "shop", "store")
    vault = await loaded(engine)
    who = caller(grant(held["shop"]), grant(held["store"]), default=held["shop"])

    assert vault.choose(who, LINK, "store") == held["store"]


async def test_the_default_is_chosen(engine: AsyncEngine) -> None:
    """A call that names none goes with the caller's default."""
    held = await added(engine, "shop", "store")
    vault = await loaded(engine)
    who = caller(grant(held["shop"]), grant(held["store"]), default=held["store"])

    assert vault.choose(who, LINK, None) == held["store"]


async def test_the_only_one_is_chosen(engine: AsyncEngine) -> None:
    """A caller with one token for the operation needs to name none, also if it has others for other operations."""
    held = await added(engine, "shop", "store")
    vault = await loaded(engine)

    assert vault.choose(caller(grant(held["shop"])), LINK, None) == held["shop"]
    assert vault.choose(caller(grant(held["shop"], "link-orders"), grant(held["store"], "other")), LINK, None) == held["shop"]


async def test_a_default_that_isnt_for_the_operation_doesnt_count(engine: AsyncEngine) -> None:
    """Where the default's grant doesn't cover the operation, the one token that does is chosen."""
    held = await added(engine, "shop", "store")
    vault = await loaded(engine)
    who = caller(grant(held["shop"], "other"), grant(held["store"], "link-orders"), default=held["shop"])

    assert vault.choose(who, LINK, None) == held["store"]


async def test_several_without_a_default_are_ambiguous(engine: AsyncEngine) -> None:
    """A caller with several tokens and no default is told which it may name, and only those for the operation."""
    held = await added(engine, "shop", "store", "else")
    vault = await loaded(engine)
    who = caller(grant(held["store"]), grant(held["shop"]), grant(held["else"], "other"))

    with pytest.raises(TokenAmbiguous) as refused:
        vault.choose(who, LINK, None)

    assert refused.value.members == {"tokens": ["shop", "store"]}


@pytest.mark.parametrize("wanted", ["store", "none", "", "SHOP"])
async def test_a_token_without_a_grant_is_refused(engine: AsyncEngine, wanted: str) -> None:
    """A token that isn't granted and one that isn't there are refused alike, so that names can't be guessed."""
    held = await added(engine, "shop", "store")
    vault = await loaded(engine)

    with pytest.raises(TokenNotGranted) as refused:
        vault.choose(caller(grant(held["shop"])), LINK, wanted)

    assert refused.value.detail == "the caller has no grant for a token of this name"


@pytest.mark.parametrize("wanted", [None, "shop"])
async def test_an_operation_without_a_grant_is_refused(engine: AsyncEngine, wanted: str | None) -> None:
    """A grant for other operations doesn't allow this one, whether or not its token is named."""
    held = await added(engine, "shop", "store")
    vault = await loaded(engine)
    who = caller(grant(held["shop"], "other"), *([grant(held["store"])] if wanted else []))

    with pytest.raises(OperationNotGranted, match="the caller has no grant for link-orders"):
        vault.choose(who, LINK, wanted)


async def test_a_caller_without_grants_is_refused(engine: AsyncEngine) -> None:
    """A caller that was granted nothing may do nothing."""
    await added(engine, "shop")

    with pytest.raises(OperationNotGranted):
        (await loaded(engine)).choose(caller(), LINK, None)


async def test_a_grant_for_a_token_that_is_gone_is_none(engine: AsyncEngine) -> None:
    """While the callers are older than the tokens, a grant that names no token counts for nothing."""
    held = await added(engine, "shop")
    vault = await loaded(engine)
    who = caller(Grant("gone", "gone"), grant(held["shop"]))

    assert vault.choose(who, LINK, None) == held["shop"]
    with pytest.raises(TokenNotGranted):
        vault.choose(who, LINK, "gone")


@pytest.mark.parametrize("wanted", [None, "shop"])
async def test_a_disabled_token_is_not_chosen(engine: AsyncEngine, wanted: str | None) -> None:
    """A call for a disabled token is told so, by name."""
    held = await added(engine, "shop")
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "shop", enabled=False)
    vault = await loaded(engine)

    with pytest.raises(TokenUnavailable, match="the token shop is disabled"):
        vault.choose(caller(grant(held["shop"])), LINK, wanted)


async def test_a_token_of_the_wrong_kind_is_refused(engine: AsyncEngine) -> None:
    """An operation that doesn't accept the token's kind is refused, naming the kind and those accepted."""
    held = await added(engine, "shop", kind=TokenKind.CHANNEL)
    vault = await loaded(engine)
    narrow = Operation("sync", "POST", "/sync", "", "", frozenset({TokenKind.SOURCE, TokenKind.ACCOUNT}), (), False, 1)  # noqa: FBT003

    with pytest.raises(TokenKindNotAccepted) as refused:
        vault.choose(caller(grant(held["shop"])), narrow, None)

    assert refused.value.detail == "sync takes tokens of kind account or source; shop is of kind channel"
    assert refused.value.members == {"token": "shop", "kind": "channel", "accepted": ["account", "source"]}
