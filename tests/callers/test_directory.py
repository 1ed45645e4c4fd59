"""Who a request's credential proves, in every case."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.callers import Authentication, Directory, GrantAsked, Jwt, Known, NewCaller, Presented, make_key
from app.callers.keys import GatewayKey, parse_key
from app.domain import Caller, CredentialKind, Grant, Role
from app.errors import CredentialsInvalid, CredentialsMissing, Unauthenticated, UpstreamTokenPresented
from app.storage import writing

from .database import STORE, loaded, proven, with_caller, with_tokens

JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."
UNKNOWN = "fgk_0123456789ab_" + "S" * 43


async def refusal(directory: Directory, authorization: Sequence[str], x_api_token: Sequence[str] = ()) -> Unauthenticated:
    """The problem of credentials that prove nobody."""
    with pytest.raises(Unauthenticated) as refused:
        await proven(directory, authorization, x_api_token)
    return refused.value


# --- proven


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
async def test_a_key_in_authorization_proves_its_caller(engine: AsyncEngine, scheme: str) -> None:
    """`Authorization: Bearer <key>` proves the caller, the scheme's case and further blanks aside (RFC 9110)."""
    row, key = await with_caller(engine)
    directory = await loaded(engine)

    caller = await proven(directory, [f"{scheme} {key.reveal()}"], [])

    assert (caller.id, caller.name, caller.credential_id) == (row.id, "order-service", key.id)


async def test_a_key_in_x_api_token_proves_its_caller(engine: AsyncEngine) -> None:
    """A client of Flxpoint moves over by putting the gateway key where its token was."""
    row, key = await with_caller(engine)

    assert (await proven(await loaded(engine), [], [key.reveal()])).id == row.id


async def test_the_same_key_in_both_headers_proves_its_caller(engine: AsyncEngine) -> None:
    """One credential that stands in both headers is one credential."""
    row, key = await with_caller(engine)

    assert (await proven(await loaded(engine), [f"Bearer {key.reveal()}"], [key.reveal()])).id == row.id


async def test_a_caller_comes_with_all_its_rights(engine: AsyncEngine) -> None:
    """The proven caller carries its grants, by the tokens' names, its default, role, weight and rate."""
    tokens = await with_tokens(engine, "shop", "store")
    new = NewCaller(
        "order-service", (GrantAsked("store", ("link-orders", "other")), GrantAsked("shop")), "store", Role.AUDITOR, 7, "5/second"
    )
    async with writing(engine) as connection:
        row, key = await STORE.add(connection, new)

    caller = await proven(await loaded(engine), [f"Bearer {key.reveal()}"], [])

    assert caller == Caller(
        id=row.id,
        name="order-service",
        credential_id=key.id,
        grants=(Grant(tokens["shop"].id, "shop"), Grant(tokens["store"].id, "store", frozenset({"link-orders", "other"}))),
        default_token_id=tokens["store"].id,
        role=Role.AUDITOR,
        weight=7,
        rate="5/second",
    )


async def test_each_key_proves_its_own_caller(engine: AsyncEngine) -> None:
    """Among several callers a key proves the one that it was made for."""
    made = [await with_caller(engine, name) for name in ("a", "b", "c")]
    directory = await loaded(engine)

    found = [(await proven(directory, [], [key.reveal()])).name for _, key in made]

    assert found == ["a", "b", "c"]


# --- refused


async def test_no_credential_is_missing(engine: AsyncEngine) -> None:
    """A request without either header is told how to give a credential."""
    refused = await refusal(await loaded(engine), [])

    assert type(refused) is CredentialsMissing
    assert "Authorization: Bearer <key>" in refused.detail


async def test_a_wrong_secret_and_an_unknown_id_are_refused_alike(engine: AsyncEngine) -> None:
    """Who guesses learns nothing: a known ID with another secret is refused as an unknown one is."""
    _, key = await with_caller(engine)
    directory = await loaded(engine)
    wrong = f"fgk_{key.id}_{make_key().secret}"

    known, unknown = await refusal(directory, [f"Bearer {wrong}"]), await refusal(directory, [f"Bearer {UNKNOWN}"])

    assert type(known) is type(unknown) is CredentialsInvalid
    assert (known.detail, known.members) == (unknown.detail, unknown.members) == ("the credential is not valid", {})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Bearer {JWT}",
        f"Bearer {UNKNOWN} {UNKNOWN}",
        f"Bearer\t{UNKNOWN}",
        f"Bearer{UNKNOWN}",
        f"Basic {UNKNOWN}",
        UNKNOWN,
        "Bearer a-flxpoint-token-0001",
    ],
)
async def test_another_authorization_is_invalid(engine: AsyncEngine, header: str) -> None:
    """An `Authorization` that isn't one bearer's gateway key is refused, and isn't repeated."""
    refused = await refusal(await loaded(engine), [header])

    assert type(refused) is CredentialsInvalid
    assert refused.detail == "the credential is not valid"


async def test_two_credentials_are_invalid(engine: AsyncEngine) -> None:
    """A request with two different credentials, in one header or in both, is refused even if both are valid."""
    _, one = await with_caller(engine, "one")
    _, other = await with_caller(engine, "other")
    directory = await loaded(engine)

    for authorization, x_api_token in (
        ([f"Bearer {one.reveal()}", f"Bearer {other.reveal()}"], []),
        ([], [one.reveal(), other.reveal()]),
        ([f"Bearer {one.reveal()}"], [other.reveal()]),
        ([f"Bearer {one.reveal()}", "Basic eDp5"], []),
        (["Basic eDp5"], [one.reveal()]),
    ):
        assert type(await refusal(directory, authorization, x_api_token)) is CredentialsInvalid


async def test_an_empty_header_is_no_token(engine: AsyncEngine) -> None:
    """An empty X-API-TOKEN presents nothing: beside a key it doesn't matter, alone a credential is missing."""
    directory = await loaded(engine)

    assert type(await refusal(directory, [], [""])) is CredentialsMissing


@pytest.mark.parametrize("value", ["a-flxpoint-token-0001", "fgk_short", f"{UNKNOWN}x", f"Bearer {UNKNOWN}", "a.b.c"])
async def test_a_flxpoint_token_is_refused_as_such(engine: AsyncEngine, value: str) -> None:
    """What stands in X-API-TOKEN and is no credential of the gateway's is taken for a Flxpoint token, and kept nowhere."""
    refused = await refusal(await loaded(engine), [], [value])

    assert type(refused) is UpstreamTokenPresented
    assert value not in f"{refused.detail} {refused.members} {refused!r}"


async def test_a_flxpoint_token_beside_a_good_key_is_refused(engine: AsyncEngine) -> None:
    """Whoever sends a Flxpoint token is told so, also with a valid key beside it."""
    _, key = await with_caller(engine)
    directory = await loaded(engine)

    assert type(await refusal(directory, [f"Bearer {key.reveal()}"], ["a-flxpoint-token-0001"])) is UpstreamTokenPresented
    assert type(await refusal(directory, [], [key.reveal(), "a-flxpoint-token-0001"])) is UpstreamTokenPresented


async def test_a_jwt_is_no_flxpoint_token(engine: AsyncEngine) -> None:
    """A JWT in X-API-TOKEN is a credential of the wrong sort, not an exposed token."""
    assert type(await refusal(await loaded(engine), [], [JWT])) is CredentialsInvalid


@pytest.mark.parametrize("text", ["eyJ" + "A" * 8_190, "eyJ" + "A" * 8_000 + "." + "A" * 30_000 + ".A", "x" * 8_193])
@pytest.mark.parametrize("header", ["authorization", "x_api_token"])
async def test_a_huge_credential_is_not_looked_at(header: str, text: str) -> None:
    """Beyond 8 KiB no verifier is asked whose it may be, so that strangers burn no CPU; the record tells the operator why."""
    believing = Believing(Caller("c1", "pages", "jwt-1"))
    value = f"Bearer {text}" if header == "authorization" else text

    with pytest.raises(CredentialsInvalid) as refused:
        await Authentication(Directory(), (believing,)).authenticate(Presented(**{header: [value]}))  # type: ignore[arg-type]

    assert believing.asked == 0
    assert (refused.value.detail, refused.value.recorded_as) == ("the credential is not valid", "credential-too-large")


@pytest.mark.parametrize("presented", [Presented(["Bearer " + "eyJ.e.".ljust(8_192, "e")]), Presented([], ["eyJ.e.".ljust(8_192, "e")])])
async def test_a_credential_may_have_8_kib(presented: Presented) -> None:
    """That much is looked at in either header."""
    believing = Believing(Caller("c1", "pages", "jwt-1"))

    assert await Authentication(Directory(), (believing,)).authenticate(presented)
    assert believing.asked == 1


# --- ended, disabled, elsewhere


async def test_an_expired_key_proves_nobody(engine: AsyncEngine) -> None:
    """A key is good until its end, and no longer."""
    end = datetime.now(UTC) + timedelta(days=90)
    async with writing(engine) as connection:
        _, key = await STORE.add(connection, NewCaller("order-service"), expires_at=end)
    before = await loaded(engine, Directory(lambda: end.timestamp() - 0.001))
    after = await loaded(engine, Directory(end.timestamp))

    caller = await proven(before, [], [key.reveal()])

    assert caller.expires_at == pytest.approx(end.timestamp())
    assert type(await refusal(after, [], [key.reveal()])) is CredentialsInvalid


async def test_a_call_that_was_let_in_outlives_its_key(engine: AsyncEngine) -> None:
    """A key that ends while its call waits was good when it counted; one that is withdrawn isn't any more."""
    tokens = await with_tokens(engine, "shop")
    end = datetime.now(UTC) + timedelta(days=1)
    now = [end.timestamp() - 1]
    async with writing(engine) as connection:
        _, key = await STORE.add(connection, NewCaller("order-service", (GrantAsked("shop"),)), expires_at=end)
    directory = await loaded(engine, Directory(lambda: now[0]))
    caller = await proven(directory, [], [key.reveal()])
    now[0] = end.timestamp() + 1

    directory.require(caller, tokens["shop"].id, "link-orders", None)

    async with writing(engine) as connection:
        await STORE.rotate_key(connection, "order-service")
    await loaded(engine, directory)
    with pytest.raises(CredentialsInvalid, match="withdrawn while the call waited"):
        directory.require(caller, tokens["shop"].id, "link-orders", None)


async def test_a_disabled_caller_is_nobody(engine: AsyncEngine) -> None:
    """While it is disabled, a caller's key proves nothing, and nothing rests on it; enabled again, all is as before."""
    row, key = await with_caller(engine, claims={"sub": "order-service"})
    directory = await loaded(engine)
    basis = directory.prove(key).basis
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "order-service", enabled=False)
    await loaded(engine, directory)
    refused, known, found = await refusal(directory, [], [key.reveal()]), directory.known, directory.resting_on(basis)
    async with writing(engine) as connection:
        await STORE.set_enabled(connection, "order-service", enabled=True)
    await loaded(engine, directory)

    assert type(refused) is CredentialsInvalid
    assert (known, found) == ((), None)
    assert (await proven(directory, [], [key.reveal()])).id == row.id
    assert [(one.caller.id, one.claims) for one in directory.known] == [(row.id, {"sub": "order-service"})]


async def test_a_caller_comes_with_its_networks_and_origins(engine: AsyncEngine) -> None:
    """Where a caller may call from and which pages are its own is known with it, whatever it proves itself with."""
    row, _ = await with_caller(engine, networks=("10.0.0.0/8", "fd00::/8"), origins=("https://shop.example",))

    [known] = (await loaded(engine)).known

    assert known == Known(known.caller, {})
    assert known.caller.id == row.id
    assert known.caller.networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert known.caller.origins == frozenset({"https://shop.example"})


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
async def test_a_caller_calls_from_its_networks(engine: AsyncEngine, address: str) -> None:
    """From within its networks a caller's key is good."""
    row, key = await with_caller(engine, networks=("192.0.2.0/24", "10.0.0.0/8"))
    presented = Presented(x_api_token=[key.reveal()], address=address)

    assert (await Authentication(await loaded(engine)).authenticate(presented)).id == row.id


@pytest.mark.parametrize("address", ["11.1.2.3", "2001:db8::1", "socket", None])
async def test_a_key_from_elsewhere_is_refused_as_any_other(engine: AsyncEngine, address: str | None) -> None:
    """Whoever stole a key doesn't learn that it is good, nor by the time that a log line takes: that is written after the answer.

    The operator learns it, with the caller's name, and no use is noted.
    """
    _, key = await with_caller(engine, networks=("10.0.0.0/8",))
    directory, used = await loaded(engine), list[str]()
    authentication = Authentication(directory, note_use=used.append)

    with capture_logs() as lines:
        with pytest.raises(CredentialsInvalid) as refused:
            await authentication.authenticate(Presented(x_api_token=[key.reveal()], address=address))
        before_the_answer = list(lines)
        await asyncio.sleep(0)

    other = await refusal(directory, [], [UNKNOWN])
    assert (refused.value.code, refused.value.detail, refused.value.members) == (other.code, other.detail, other.members)
    assert (refused.value.recorded_as, other.recorded_as) == ("network-not-allowed", "credentials-invalid")
    assert [(line["event"], line["caller"], line["address"]) for line in lines] == [("network-not-allowed", "order-service", address)]
    assert used == []
    assert before_the_answer == []


class Believing:
    """A verifier that takes every JWT for one caller's."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.asked = 0

    def recognises(self, jwt: Jwt) -> bool:
        """Every one."""
        self.asked += 1
        return bool(jwt.text)

    async def verify(self, jwt: Jwt) -> Caller:
        """Whose it is."""
        assert jwt.text
        return self._caller


async def test_networks_hold_for_every_kind_of_credential() -> None:
    """Also a JWT that proves its caller is good only from that caller's networks; a use of a key it isn't."""
    caller = Caller("c1", "pages", "jwt-1", credential=CredentialKind.JWT, networks=(ip_network("10.0.0.0/8"),))
    used: list[str] = []
    authentication = Authentication(Directory(), (Believing(caller),), note_use=used.append)

    inside = await authentication.authenticate(Presented([f"Bearer {JWT}"], address="10.0.0.1"))

    assert inside is caller
    assert used == []
    with pytest.raises(CredentialsInvalid):
        await authentication.authenticate(Presented([f"Bearer {JWT}"], address="192.0.2.1"))


class CountedKey:
    """A key that counts how often its hash is asked for."""

    def __init__(self, key: GatewayKey) -> None:
        self.id = key.id
        self._sha256 = key.sha256
        self.hashed = 0

    @property
    def sha256(self) -> bytes:
        """The secret's hash."""
        self.hashed += 1
        return self._sha256


async def test_wrong_keys_are_refused_alike(engine: AsyncEngine) -> None:
    """An unknown ID, another's secret, a disabled caller, an ended key: one hash each, and the very same answer."""
    _, good = await with_caller(engine, "good")
    _, disabled = await with_caller(engine, "disabled")
    async with writing(engine) as connection:
        _, ended = await STORE.add(connection, NewCaller("ended"), expires_at=datetime.now(UTC) + timedelta(seconds=30))
        await STORE.set_enabled(connection, "disabled", enabled=False)
    directory = await loaded(engine, Directory(lambda: datetime.now(UTC).timestamp() + 60))
    unknown = parse_key(UNKNOWN)
    assert unknown is not None
    wrong = [unknown, GatewayKey(good.id, make_key().secret), GatewayKey(good.id, good.secret[:-4] + "AAAA"), disabled, ended]

    answers, hashed = set(), []
    for key in map(CountedKey, wrong):
        with pytest.raises(CredentialsInvalid) as refused:
            directory.prove(key)  # type: ignore[arg-type]
        answers.add((refused.value.code, refused.value.detail, str(refused.value.members), refused.value.recorded_as))
        hashed.append(key.hashed)

    assert answers == {("credentials-invalid", "the credential is not valid", "{}", "credentials-invalid")}
    assert hashed == [1] * len(wrong)


async def test_a_revoked_key_is_gone_with_the_next_reading(engine: AsyncEngine) -> None:
    """Nothing is remembered of a key beyond the callers that are in use: used a hundred times, it proves nothing after the next `use`."""
    _, key = await with_caller(engine)
    directory = await loaded(engine)
    for _ in range(100):
        await proven(directory, [], [key.reveal()])
    async with writing(engine) as connection:
        await STORE.rotate_key(connection, "order-service")

    await loaded(engine, directory)

    assert type(await refusal(directory, [], [key.reveal()])) is CredentialsInvalid


# --- changes


async def test_a_load_replaces_what_was_known(engine: AsyncEngine) -> None:
    """After a load a rotated key, a removed caller and a taken grant count no more, and new ones do."""
    await with_tokens(engine, "shop")
    _, gone = await with_caller(engine, "gone")
    _, old = await with_caller(engine, "kept", GrantAsked("shop"))
    directory = await loaded(engine)
    async with writing(engine) as connection:
        await STORE.remove(connection, "gone")
        await STORE.revoke(connection, "kept", "shop")
        _, new = await STORE.rotate_key(connection, "kept")
    before = await proven(directory, [], [old.reveal()])

    await loaded(engine, directory)

    assert len(before.grants) == 1
    assert (await proven(directory, [], [new.reveal()])).grants == ()
    for key in (gone, old):
        assert type(await refusal(directory, [], [key.reveal()])) is CredentialsInvalid
