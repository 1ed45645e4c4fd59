"""Bringing tokens and callers to what is declared: what is changed, what is on record, what is refused."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.administration import Administration
from app.audit import list_records
from app.callers import Directory, GatewayKey, GrantAsked, NewCaller, parse_key
from app.domain import Caller, TokenKind, TokenValue
from app.errors import Conflict, CredentialsInvalid, StartRefused
from app.storage import current_revision, reading, writing
from app.vault import NewToken, TokenChange, Vault

from .files import CALLERS, CANARY, KEY, KEYRING, TOKENS, Files

BY = "configuration:gateway.yaml"
NOTHING = "tokens: []"


def ada(engine: AsyncEngine) -> Administration:
    """An operator with the command line."""
    return Administration(engine, KEYRING, "command:ada")


async def records(engine: AsyncEngine) -> list[dict[str, Any]]:
    """What is on record, oldest first, but for the chain's opening, and the IDs, times and places that are always there."""
    async with reading(engine) as connection:
        found = (await list_records(connection, limit=100))[::-1]
    assert all(record.pop(member) for record in found for member in ("id", "at", "chain", "seq", "number"))
    return [record for record in found if record["name"] != "chain:opened"]


async def everything(engine: AsyncEngine) -> tuple[object, ...]:
    """All that applying could change."""
    async with reading(engine) as connection:
        revision = await current_revision(connection)
    return revision, await ada(engine).tokens(), await ada(engine).callers(), await records(engine)


async def value_of(engine: AsyncEngine, name: str) -> str:
    """A token's value, as a send would get it."""
    vault = Vault(KEYRING)
    async with reading(engine) as connection:
        await vault.load(connection)
    return next(vault.open(token.id)[1].reveal() for token in vault.tokens if token.name == name)


async def proven(engine: AsyncEngine, key: str = KEY) -> Caller:
    """Whose key that is.

    Raises:
        CredentialsInvalid
    """
    directory = Directory()
    async with reading(engine) as connection:
        await directory.load(connection)
    parsed = parse_key(key)
    assert isinstance(parsed, GatewayKey)
    return directory.prove(parsed)


def recorded(name: str, subject: str, **members: Any) -> dict[str, Any]:
    """A record of the configuration file's."""
    return {"name": name, "by": BY, "subject": subject} | members


async def test_what_is_declared_is_made(engine: AsyncEngine, files: Files) -> None:
    """Token, caller, grant and key are there, usable, marked as declared, and on record without a secret."""
    applied = await files.apply(engine)

    token, caller = await ada(engine).token("shop"), await proven(engine)
    row = await ada(engine).caller("order-service")
    assert (applied.tokens, applied.callers) == (1, 1)
    assert applied.changes == {"token:added": 1, "caller:added": 1, "caller:key-added": 1}
    assert (token.declared, row.declared, token.token.enabled, row.enabled) == (True, True, True, True)
    assert await value_of(engine, "shop") == f"{CANARY}1"
    assert (caller.name, [grant.token_name for grant in caller.grants]) == ("order-service", ["shop"])
    assert [key.id for key in row.keys] == ["0123456789ab"]
    found = await records(engine)
    paced = {"kind": "account", "rate": 2, "burst": "window", "pacing": "learned"}
    assert found == [
        recorded("token:added", "shop", after=paced | {"enabled": True, "fingerprint": token.fingerprint}),
        recorded("caller:added", "order-service", weight=1, grants=["shop"]),
        recorded("caller:key-added", "order-service", credential_id="0123456789ab"),
    ]
    assert not any(secret in str(found) for secret in (CANARY, "C" * 43))


async def test_the_same_again_writes_nothing(engine: AsyncEngine, files: Files) -> None:
    """Where nothing differs, the revision isn't touched, no token is rotated and nothing is put on record."""
    await files.apply(engine)
    before = await everything(engine)

    applied = await files.apply(engine)

    assert applied.changes == {}
    assert await everything(engine) == before


async def test_only_what_differs_is_changed(engine: AsyncEngine, files: Files) -> None:
    """Changed members are on record as they were and as they are; the value, the ID and the key stay."""
    await files.apply(engine)
    before = await ada(engine).token("shop"), await ada(engine).caller("order-service")
    files.declare("""
tokens:
  - {name: shop, kind: source, value: {file: shop.value}, rate: 3, burst: spaced, pacing: proven}
callers:
  - name: order-service
    grants: [{token: shop, operations: [link-orders]}]
    default_token: shop
    role: admin
    weight: 2
    rate: 5/second
    networks: [10.0.0.0/8]
    origins: [https://shop.example]
    claims: {azp: shop-frontend}
    keys: [{file: order-service.key, expires: 2027-01-01T00:00:00Z}]
""")

    await files.apply(engine)

    token, caller = await ada(engine).token("shop"), await ada(engine).caller("order-service")
    ends = "2027-01-01T00:00:00.000000+00:00"
    assert (token.token.id, token.token.version, token.fingerprint) == (before[0].token.id, 1, before[0].fingerprint)
    assert (caller.id, caller.keys[0].id, caller.keys[0].expires_at) == (before[1].id, before[1].keys[0].id, ends)
    assert (await records(engine))[3:] == [
        recorded(
            "token:changed",
            "shop",
            before={"kind": "account", "rate": 2, "burst": "window", "pacing": "learned"},
            after={"kind": "source", "rate": 3, "burst": "spaced", "pacing": "proven"},
        ),
        recorded(
            "caller:changed",
            "order-service",
            before=["role=", "weight=1", "rate=", "grants=shop", "default_token=", "networks=", "origins=", "claims="],
            after=[
                *("role=admin", "weight=2", "rate=5/second", "grants=shop:link-orders", "default_token=shop"),
                *("networks=10.0.0.0/8", "origins=https://shop.example", "claims=azp=shop-frontend"),
            ],
        ),
        recorded("caller:key-changed", "order-service", credential_id="0123456789ab", after=ends),
    ]
    settled = await everything(engine)
    await files.apply(engine)
    assert await everything(engine) == settled


@pytest.mark.parametrize("member", ["networks", "origins", "claims", "grants"])
async def test_a_member_that_is_taken_out_is_taken_back(engine: AsyncEngine, files: Files, member: str) -> None:
    """What a caller has no longer in the file it has no longer at all."""
    members = {
        "networks": "[10.0.0.0/8]",
        "origins": "[https://shop.example]",
        "claims": "{a: b=c}",
        "grants": "[{token: shop}]",
    }
    before, after = (
        TOKENS + "callers:\n- name: x\n" + "".join(f"  {name}: {text}\n" for name, text in members.items() if name not in without)
        for without in ((), (member,))
    )
    files.declare(before)
    await files.apply(engine)
    files.declare(after)

    applied = await files.apply(engine)

    assert applied.changes == {"caller:changed": 1}
    assert not getattr(await ada(engine).caller("x"), member)


async def test_another_value_is_a_rotation(engine: AsyncEngine, files: Files) -> None:
    """A token whose file holds another value is rotated: the same token, one version on."""
    await files.apply(engine)
    before = await ada(engine).token("shop")
    files.write(shop__value=f"{CANARY}2")

    applied = await files.apply(engine)

    after = await ada(engine).token("shop")
    assert (after.token.id, after.token.version) == (before.token.id, 2)
    assert applied.changes == {"token:rotated": 1}
    assert await value_of(engine, "shop") == f"{CANARY}2"
    assert (await records(engine))[-1] == recorded("token:rotated", "shop", before=before.fingerprint, after=after.fingerprint)


MEMBERS = {
    "token:added": {"after"},
    "token:changed": {"before", "after"},
    "token:rotated": {"before", "after"},
    "token:disabled": {"before", "after"},
    "token:enabled": {"before", "after"},
    "caller:changed": {"before", "after"},
    "caller:disabled": set(),
    "caller:enabled": set(),
}


async def test_a_record_doesnt_differ_by_the_way_of_its_change(engine: AsyncEngine, files: Files) -> None:
    """What the file changes is told in the same members, of the same form, as what an operator changes."""
    await files.apply(engine)
    files.write(shop__value=f"{CANARY}2")
    changed = (TOKENS + CALLERS).replace("account", "source").replace("name: order-service", "name: order-service\n    weight: 2")
    for text in (changed, NOTHING, changed):
        files.declare(text)
        await files.apply(engine)
    await ada(engine).add_token(replace(SHOP, name="store"))
    await ada(engine).add_caller(NewCaller("ada"))
    await ada(engine).change_token("store", TokenChange(TokenKind.SOURCE))
    await ada(engine).rotate_token("store", TokenValue(f"{CANARY}9"))
    await ada(engine).change_caller(NewCaller("ada", weight=2))
    for enabled in (False, True):
        await ada(engine).set_token_enabled("store", enabled=enabled)
        await ada(engine).set_caller_enabled("ada", enabled=enabled)

    found = await records(engine)
    forms = {who: {one["name"]: _form(one) for one in found if one["by"] == who} for who in (BY, "command:ada")}
    assert {name: set(form) for name, form in forms[BY].items() if name in MEMBERS} == MEMBERS
    assert {name: forms[BY][name] for name in MEMBERS} == {name: forms["command:ada"][name] for name in MEMBERS}


def _form(record: dict[str, Any]) -> dict[str, Any]:
    """A record's own members, each by its type, or by its own members' names."""
    own = {name: member for name, member in record.items() if name not in {"name", "by", "subject"}}
    return {name: sorted(member) if isinstance(member, dict) else type(member) for name, member in own.items()}


async def test_what_isnt_declared_any_more_is_disabled(engine: AsyncEngine, files: Files) -> None:
    """Its key is refused, its rows stay, and once it is declared again it is as before."""
    await files.apply(engine)
    made = await ada(engine).token("shop"), await ada(engine).caller("order-service")
    files.declare(NOTHING)

    gone = await files.apply(engine)

    token, caller = await ada(engine).token("shop"), await ada(engine).caller("order-service")
    assert gone.changes == {"token:disabled": 1, "caller:disabled": 1}
    assert (token.token.enabled, token.declared, caller.enabled, caller.declared) == (False, True, False, True)
    with pytest.raises(CredentialsInvalid):
        await proven(engine)
    assert (await files.apply(engine)).changes == {}

    files.declare(TOKENS + CALLERS)
    back = await files.apply(engine)

    assert back.changes == {"token:enabled": 1, "caller:enabled": 1}
    assert (await ada(engine).token("shop"), await ada(engine).caller("order-service")) == made
    assert (await proven(engine)).name == "order-service"


async def test_keys_come_and_go(engine: AsyncEngine, files: Files) -> None:
    """A key that isn't declared any more is refused, a new one is taken, and a new secret under an old ID replaces the old one."""
    await files.apply(engine)
    other = f"fgk_aaaaaaaaaaaa_{'D' * 43}"
    (files.folder / "order-service.key").write_text(other, encoding="utf-8")
    exchanged = await files.apply(engine)
    with pytest.raises(CredentialsInvalid):
        await proven(engine)
    assert (await proven(engine, other)).name == "order-service"

    (files.folder / "order-service.key").write_text(other.replace("D", "E"), encoding="utf-8")
    replaced = await files.apply(engine)

    assert exchanged.changes == replaced.changes == {"caller:key-revoked": 1, "caller:key-added": 1}
    with pytest.raises(CredentialsInvalid):
        await proven(engine, other)
    assert (await proven(engine, other.replace("D", "E"))).name == "order-service"


async def test_a_renamed_token_goes_on_under_its_new_name(engine: AsyncEngine, files: Files) -> None:
    """A value that is declared under another name than before takes the old one's place: one value has one lane, under one name."""
    await files.apply(engine)
    before = await ada(engine).token("shop")
    files.declare((TOKENS + CALLERS).replace("name: shop", "name: store").replace("token: shop", "token: store"))

    applied = await files.apply(engine)

    tokens = await ada(engine).tokens()
    assert [(row.token.name, row.token.lane, row.token.enabled) for row in tokens] == [("store", before.token.lane, True)]
    assert {name: applied.changes[name] for name in ("token:removed", "token:added")} == {"token:removed": 1, "token:added": 1}
    assert [str(grant) for grant in (await ada(engine).caller("order-service")).grants] == ["store"]


async def test_a_rename_that_takes_a_grant_from_others_is_refused(engine: AsyncEngine, files: Files) -> None:
    """While callers outside the file may use the old name, it isn't given up; the message names them, and nothing is changed."""
    await files.apply(engine)
    for name in ("zoe", "by-hand"):
        await ada(engine).add_caller(NewCaller(name, (GrantAsked("shop"),)))
    before = await everything(engine)
    files.declare((TOKENS + CALLERS).replace("name: shop", "name: store").replace("token: shop", "token: store"))

    with pytest.raises(StartRefused) as refused:
        await files.apply(engine)

    held = "its value is held by the token shop, which isn't declared any more, but which callers outside this file may use: by-hand, zoe"
    assert str(refused.value) == f"GATEWAY_CONFIG_FILE: {files.path}:3: tokens[0]: {held}; revoke those grants first, or keep the name"
    assert await everything(engine) == before

    for name in ("zoe", "by-hand"):
        await ada(engine).revoke(name, "shop")
    assert (await files.apply(engine)).changes["token:removed"] == 1


async def test_a_rename_puts_each_grant_that_ends_on_record(engine: AsyncEngine, files: Files) -> None:
    """The file's callers, those of today and those that it named once, lose their grant of the old name, and their record says so."""
    now, once = "- {name: now, grants: [{token: shop}], default_token: shop}", "- {name: once, grants: [{token: shop}]}"
    files.declare(f"{TOKENS}callers:\n{now}\n{once}")
    await files.apply(engine)
    files.declare(f"{TOKENS.replace('name: shop', 'name: store')}callers:\n- {{name: now, grants: [{{token: store}}]}}")
    before = len(await records(engine))

    await files.apply(engine)

    found = (await records(engine))[before:]
    assert [record for record in found if record["name"] == "caller:revoked"] == [
        recorded("caller:revoked", name, before=["shop"], after=[]) for name in ("now", "once")
    ]
    order = [record["name"] for record in found]
    assert order.index("caller:revoked") < order.index("token:removed") < order.index("token:added")


async def test_values_move_among_tokens_whatever_their_order(engine: AsyncEngine, files: Files) -> None:
    """A value that a token gives up may be another's in the same step, wherever the two stand in the file."""
    declared = ["- {name: t2, kind: account, value: {file: a}}", "- {name: t1, kind: account, value: {file: c}}"]
    files.write(a=f"{CANARY}A", b=f"{CANARY}B", c=f"{CANARY}C")
    for lines in (declared, declared[::-1]):
        files.declare("tokens:\n- {name: t1, kind: account, value: {file: a}}\n- {name: t2, kind: account, value: {file: b}}")
        await files.apply(engine)
        files.declare("\n".join(["tokens:", *lines]))

        applied = await files.apply(engine)

        assert applied.changes == {"token:rotated": 2}
        assert [await value_of(engine, name) for name in ("t1", "t2")] == [f"{CANARY}C", f"{CANARY}A"]


async def test_two_tokens_exchange_their_values(engine: AsyncEngine, files: Files) -> None:
    """Each is rotated once, on record with both fingerprints, and lanes follow the values."""
    files.write(a=f"{CANARY}A", b=f"{CANARY}B")
    files.declare("tokens:\n- {name: t1, kind: account, value: {file: a}}\n- {name: t2, kind: account, value: {file: b}}")
    await files.apply(engine)
    first, second = await ada(engine).tokens()
    files.write(a=f"{CANARY}B", b=f"{CANARY}A")

    await files.apply(engine)

    after = await ada(engine).tokens()
    assert [await value_of(engine, name) for name in ("t1", "t2")] == [f"{CANARY}B", f"{CANARY}A"]
    assert [(row.token.id, row.token.lane, row.token.version) for row in after] == [
        (first.token.id, second.token.lane, 2),
        (second.token.id, first.token.lane, 2),
    ]
    assert (await records(engine))[-2:] == [
        recorded("token:rotated", "t1", before=first.fingerprint, after=second.fingerprint),
        recorded("token:rotated", "t2", before=second.fingerprint, after=first.fingerprint),
    ]
    settled = await everything(engine)
    await files.apply(engine)
    assert await everything(engine) == settled


async def test_a_value_that_its_holder_keeps_isnt_given_away(engine: AsyncEngine, files: Files) -> None:
    """Where two tokens of a file are to have one value, it stays with the one that has it; the other one is at fault."""
    files.write(a=f"{CANARY}A", b=f"{CANARY}B")
    files.declare("tokens:\n- {name: t1, kind: account, value: {file: a}}\n- {name: t2, kind: account, value: {file: b}}")
    await files.apply(engine)
    before = await everything(engine)
    files.write(a=f"{CANARY}B")

    with pytest.raises(StartRefused, match=re.escape(":2: tokens[0]: its value is held by the token t2 already")):
        await files.apply(engine)

    assert await everything(engine) == before


async def test_a_renamed_caller_keeps_its_key(engine: AsyncEngine, files: Files) -> None:
    """A key that is declared for another caller than before is that one's alone."""
    await files.apply(engine)
    files.declare(TOKENS + CALLERS.replace("order-service", "orders", 1))

    await files.apply(engine)

    assert (await proven(engine)).name == "orders"
    old = await ada(engine).caller("order-service")
    assert (old.enabled, old.keys) == (False, ())


async def test_a_key_goes_from_one_caller_to_another(engine: AsyncEngine, files: Files) -> None:
    """Two declared callers may exchange their keys in one step, whatever their order."""
    other = f"fgk_aaaaaaaaaaaa_{'D' * 43}"
    files.write(a=KEY, b=other)
    files.declare("callers:\n- {name: a, keys: [{file: a}]}\n- {name: b, keys: [{file: b}]}")
    await files.apply(engine)
    files.write(a=other, b=KEY)

    await files.apply(engine)

    assert ((await proven(engine)).name, (await proven(engine, other)).name) == ("b", "a")


async def test_the_declared_is_changed_nowhere_else(engine: AsyncEngine, files: Files) -> None:
    """Every change by an operator is refused as a conflict, and a declared caller may be granted an operator's token."""
    await ada(engine).add_token(NewToken("store", TokenKind.ACCOUNT, TokenValue(f"{CANARY}5")))
    files.declare(TOKENS + CALLERS.replace("[{token: shop}]", "[{token: shop}, {token: store}]"))
    await files.apply(engine)
    before = await everything(engine)

    for work in (
        ada(engine).rotate_token("shop", TokenValue(f"{CANARY}9")),
        ada(engine).set_token_enabled("shop", enabled=False),
        ada(engine).remove_token("shop"),
        ada(engine).grant("order-service", GrantAsked("store")),
        ada(engine).revoke("order-service", "shop"),
        ada(engine).rotate_key("order-service"),
        ada(engine).remove_caller("order-service"),
    ):
        with pytest.raises(Conflict, match="is declared in the configuration file; change it there"):
            await work

    assert await everything(engine) == before


async def test_what_is_left_over_may_be_removed(engine: AsyncEngine, files: Files) -> None:
    """What isn't declared any more can be removed by an operator, and is made anew when it is declared again."""
    await files.apply(engine)
    files.declare(NOTHING)
    await files.apply(engine)

    await ada(engine).remove_caller("order-service")
    await ada(engine).remove_token("shop")

    files.declare(TOKENS + CALLERS)
    assert (await files.apply(engine)).changes == {"token:added": 1, "caller:added": 1, "caller:key-added": 1}


SHOP = NewToken("shop", TokenKind.ACCOUNT, TokenValue(f"{CANARY}7"))
HELD = NewToken("held", TokenKind.ACCOUNT, TokenValue(f"{CANARY}1"))


async def test_a_clash_is_refused_whole(engine: AsyncEngine, files: Files) -> None:
    """What was made otherwise stops the declaration, which then changes nothing; the message names it and says what to do."""
    await ada(engine).add_token(SHOP)
    before = await everything(engine)
    told = "a token named shop was added otherwise: rename one of the two, or remove that one with `token remove shop`"

    with pytest.raises(StartRefused) as refused:
        await files.apply(engine)

    assert str(refused.value) == f"GATEWAY_CONFIG_FILE: {files.path}:3: tokens[0]: {told}"
    assert await everything(engine) == before


async def test_a_callers_clash_is_refused_whole(engine: AsyncEngine, files: Files) -> None:
    """A caller's name that is in use takes the tokens that were declared beside it back too."""
    await ada(engine).add_caller(NewCaller("order-service"))
    before = await everything(engine)
    told = "a caller named order-service was added otherwise: rename one of the two, or remove that one with `caller remove order-service`"

    with pytest.raises(StartRefused) as refused:
        await files.apply(engine)

    assert str(refused.value) == f"GATEWAY_CONFIG_FILE: {files.path}:6: callers[0]: {told}"
    assert await everything(engine) == before


async def test_a_value_that_another_token_has_is_refused(engine: AsyncEngine, files: Files) -> None:
    """One value has one name: neither an operator's token nor another declared one may have it too."""
    await ada(engine).add_token(HELD)
    with pytest.raises(StartRefused, match=re.escape("tokens[0]: its value is held by the token held already: one token has one lane")):
        await files.apply(engine)
    await ada(engine).remove_token("held")

    files.declare(f"{TOKENS}  - {{name: store, kind: account, value: {{file: shop.value}}}}")
    with pytest.raises(StartRefused, match=re.escape(":4: tokens[1]: its value is held by the token shop already")) as refused:
        await files.apply(engine)

    assert CANARY not in str(refused.value)
    assert await ada(engine).tokens() == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tokens:\n- {name: NAME, kind: account, value: {file: shop.value}}", ":2: tokens[0]: the name is"),
        ("tokens:\n- {name: a, kind: account, value: {file: shop.value}}\ncallers:\n- {name: NAME}", ":4: callers[0]: the name is"),
        (
            "tokens:\n- {name: NAME, kind: source, value: {file: b}}\n- {name: a, kind: source, value: {file: shop.value}}",
            ":3: tokens[1]: the value is",
        ),
    ],
)
async def test_a_value_in_a_names_place_is_refused(engine: AsyncEngine, files: Files, text: str, place: str) -> None:
    """A value that the file gives as a name too, of a token or a caller, is kept nowhere, and isn't said back."""
    files.write(b=f"{CANARY}B")
    files.declare(text.replace("NAME", f"{CANARY}1"))

    with pytest.raises(StartRefused, match=re.escape(f"{place} a token's ")) as refused:
        await files.apply(engine)

    assert CANARY not in str(refused.value)
    assert await ada(engine).tokens() == []


async def test_a_key_that_another_caller_has_is_refused(engine: AsyncEngine, files: Files) -> None:
    """A key of an operator's caller isn't taken from it."""
    _, key = await ada(engine).add_caller(NewCaller("old"))
    (files.folder / "order-service.key").write_text(key.reveal(), encoding="utf-8")

    with pytest.raises(StartRefused, match=re.escape(f"callers[0]: the key {key.id} is old's already")) as refused:
        await files.apply(engine)

    assert key.secret not in str(refused.value)


async def test_a_grant_of_no_token_is_refused(engine: AsyncEngine, files: Files) -> None:
    """A grant names a token that is declared or that an operator added, not one that there isn't or that isn't declared any more."""
    files.declare(CALLERS)
    with pytest.raises(StartRefused, match=re.escape("callers[0]: grants[0] names a token that there isn't")):
        await files.apply(engine)

    files.declare(TOKENS + CALLERS)
    await files.apply(engine)
    files.declare(CALLERS)
    with pytest.raises(StartRefused, match=re.escape("callers[0]: a grant names the token shop, which isn't declared any more")):
        await files.apply(engine)

    assert (await ada(engine).token("shop")).token.enabled


async def test_what_cant_be_recorded_isnt_done(engine: AsyncEngine, files: Files) -> None:
    """A declaration whose records can't be written changes nothing."""
    async with writing(engine) as connection:
        await connection.exec_driver_sql("DROP TABLE audit_records")

    with pytest.raises(SQLAlchemyError):
        await files.apply(engine)

    assert (await ada(engine).tokens(), await ada(engine).callers()) == ([], [])


async def test_of_two_at_once_one_does_it(engine: AsyncEngine, files: Files) -> None:
    """The database's lock lets one after the other in: what the first has done, the second finds."""
    applied = await asyncio.gather(*(files.apply(engine) for _ in range(4)))

    assert sorted(len(one.changes) for one in applied) == [0, 0, 0, 3]
    assert len(await records(engine)) == 3
