from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.callers import Authentication, Directory, IdentityProvider, Jwt, Known, Presented, ProviderKeys
from app.callers.directory import DirectoryContents
from app.callers.verified import VerifiedJwts
from app.domain import Caller, CredentialKind, Grant, Role
from app.errors import CredentialsInvalid, TokenUnavailable
from app.upstream import open_documents

from .standin import AUDIENCE, KEYS, NOW, StandIn, forged, jwk_of, private_key, standing_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP = Caller(id="c1", name="shop", credential_id="", grants=(Grant("t1", "main"),), role=Role.AUDITOR, weight=3)
DESK = Caller(id="c2", name="desk", credential_id="")
PUBLISHED = {"one": "RS256", "two": "ES256", "three": "ES384", "four": "ES512", "five": "EdDSA", "six": "PS256"}


@dataclass
class Scene:
    """A provider, the verifier that trusts it, and the callers, at a moment that stands still."""

    standin: StandIn
    keys: ProviderKeys
    directory: Directory = field(default_factory=Directory)
    now: float = NOW

    def __post_init__(self) -> None:
        self.know(Known(SHOP, {"azp": "shop-frontend"}), Known(DESK, {"azp": "desk"}))
        self.identity = IdentityProvider(self.standin.issuer, AUDIENCE, self.keys, self.directory, lambda: self.now)
        self.authentication = Authentication(self.directory, (self.identity,))

    def know(self, *known: Known) -> None:
        """From now on the callers are these."""
        self.directory.use(DirectoryContents(by_id={one.caller.id: one for one in known}))

    async def proven(self, token: str) -> Caller:
        """The caller that a JWT proves."""
        return await self.authentication.authenticate(Presented([f"Bearer {token}"]))

    async def refused(self, token: str) -> str:
        """Why a JWT was refused, as the operator's log has it; the caller is told nothing but that."""
        with capture_logs() as lines, pytest.raises(CredentialsInvalid) as refusal:
            await self.proven(token)
        assert refusal.value.detail == "the credential is not valid"
        reasons = [line["reason"] for line in lines if line["event"] == "a JWT was refused"]
        assert len(reasons) == 1
        return str(reasons[0])

    def signed(self, header: dict[str, Any], **changed: Any) -> str:
        """A JWT of any header, truly signed with RS256 by the provider's key."""
        return forged(header, self.standin.claims(**changed), by_rsa)


def by_rsa(message: bytes) -> bytes:
    """The provider's own RS256 signature."""
    private = private_key("RS256")
    assert isinstance(private, RSAPrivateKey)
    return private.sign(message, padding.PKCS1v15(), hashes.SHA256())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[StandIn]:
    """One provider for all tests here."""
    async with standing_in() as standin:
        yield standin


@pytest_asyncio.fixture(loop_scope="module")
async def scene(running: StandIn) -> AsyncIterator[Scene]:
    """The provider with a key of each sort, which are known."""
    running.reset(*(jwk_of(private_key(algorithm), kid=kid) for kid, algorithm in PUBLISHED.items()))
    documents = open_documents()
    scene = Scene(running, ProviderKeys(running.issuer, documents, lambda: 0.0))
    await scene.keys.refresh()
    yield scene
    await documents.aclose()


async def test_a_jwt_proves_its_caller(scene: Scene) -> None:
    """It has the caller's rights, names its subject in records, and ends when it says."""
    caller = await scene.proven(scene.standin.token())

    assert (caller.id, caller.grants, caller.role, caller.weight) == (SHOP.id, SHOP.grants, SHOP.role, SHOP.weight)
    assert caller.credential is CredentialKind.JWT
    assert caller.credential_id == "jwt:user-1"
    assert caller.expires_at == NOW + 300


@pytest.mark.parametrize(("kid", "algorithm"), [*PUBLISHED.items(), ("one", "RS512"), ("one", "PS384"), ("six", "RS384")])
async def test_every_algorithm_of_the_list_is_taken(scene: Scene, kid: str, algorithm: str) -> None:
    """Each signature of a key pair that fits the key is verified."""
    assert (await scene.proven(scene.standin.token(kid, algorithm, by=private_key(PUBLISHED[kid])))).id == SHOP.id


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT"])
async def test_a_type_that_credentials_have_is_taken(scene: Scene, typ: str) -> None:
    """JWTs and access tokens (RFC 9068), by whichever spelling of the media type."""
    assert await scene.proven(scene.signed({"alg": "RS256", "kid": "one", "typ": typ}))


async def test_a_jwt_in_x_api_token_is_as_good(scene: Scene) -> None:
    """Both headers take the same credentials."""
    assert await scene.authentication.authenticate(Presented((), [scene.standin.token()]))


# --- attacks on the signature


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", " none", "none\u0000", "", None, 0, False, [], ["RS256"], {"alg": "RS256"}]
)
@pytest.mark.parametrize("signature", [b"", b"x"])
async def test_a_jwt_without_a_signature_proves_nobody(scene: Scene, alg: Any, signature: bytes) -> None:
    """`none` in every spelling, and whatever else isn't the name of a signature."""
    token = forged({"alg": alg, "typ": "JWT", "kid": "one"}, scene.standin.claims(), lambda _: signature)

    assert await scene.refused(token) == "its algorithm is not taken"


async def test_a_jwt_that_names_no_algorithm_proves_nobody(scene: Scene) -> None:
    """There is no algorithm by default."""
    assert await scene.refused(scene.signed({"typ": "JWT", "kid": "one"})) == "its algorithm is not taken"


async def test_a_signature_that_was_taken_off_is_missed(scene: Scene) -> None:
    """A true header and payload without their signature prove nobody."""
    assert await scene.refused(scene.standin.token().rpartition(".")[0] + ".") == "InvalidSignatureError"


def hmac_secrets() -> list[bytes]:
    """Everything that the provider's public key could be read as, were it a shared secret."""
    public = private_key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    jwk = jwk_of(private_key("RS256"), kid="one")
    raw = base64.urlsafe_b64decode(jwk["n"] + "==")
    pkcs1 = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    return [pem, pem.strip(), der, pkcs1, json.dumps(jwk).encode(), jwk["n"].encode(), raw, b""]


@pytest.mark.parametrize("digest", ["SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize("secret", hmac_secrets(), ids=["pem", "pem-stripped", "der", "pkcs1", "jwk", "n", "modulus", "empty"])
async def test_a_public_key_is_no_shared_secret(scene: Scene, secret: bytes, digest: str) -> None:
    """An HMAC by the RSA public key in any form is refused, named as HMAC or as RSA."""
    for alg in (f"HS{digest[3:]}", f"RS{digest[3:]}"):
        header = {"alg": alg, "typ": "JWT", "kid": "one"}
        token = forged(header, scene.standin.claims(), lambda message: hmac.new(secret, message, getattr(hashlib, digest.lower())).digest())

        assert await scene.refused(token) == ("its algorithm is not taken" if alg.startswith("HS") else "InvalidSignatureError")


@pytest.mark.parametrize(
    ("kid", "algorithm", "signer"),
    [
        ("one", "ES256", "ES256"),
        ("two", "RS256", "RS256"),
        ("two", "ES384", "ES384"),
        ("three", "ES256", "ES256"),
        ("five", "ES256", "ES256"),
    ],
)
async def test_an_algorithm_that_doesnt_fit_the_key_is_refused(scene: Scene, kid: str, algorithm: str, signer: str) -> None:
    """A true signature by another of the provider's keys doesn't hold under this key's ID."""
    token = scene.standin.token(kid, algorithm, by=private_key(signer))

    assert await scene.refused(token) == "no key of the provider, or more than one, fits its kid and algorithm"


async def test_a_key_of_one_algorithm_is_used_with_no_other(scene: Scene) -> None:
    """Where a key says `alg`, another signature by the very key is refused."""
    scene.standin.publish(jwk_of(private_key("RS256"), kid="one", alg="RS256"))
    await scene.keys.refresh()

    assert await scene.proven(scene.standin.token())
    assert "fits its kid and algorithm" in await scene.refused(scene.standin.token(algorithm="PS256", by=private_key("RS256")))


async def test_anothers_signature_proves_nobody(scene: Scene) -> None:
    """A key that the provider doesn't publish signs for nobody, under whichever ID."""
    stranger = private_key("RS256", 9)

    assert await scene.refused(scene.standin.token(by=stranger)) == "InvalidSignatureError"
    assert "fits its kid" in await scene.refused(scene.standin.token("stranger", by=stranger))


@pytest.mark.parametrize("kid", ["one", "stranger", None])
async def test_a_key_that_the_jwt_brings_is_not_believed(scene: Scene, kid: str | None) -> None:
    """`jwk`, `jku`, `x5c` and `x5u` are not looked at, and nothing is fetched from where they point."""
    stranger = private_key("RS256", 9)
    brought = {
        "jwk": jwk_of(stranger),
        "jku": f"{scene.standin.issuer}/brought",
        "x5u": f"{scene.standin.issuer}/brought",
        "x5c": ["MIIB"],
    }
    headers = brought | ({"kid": kid} if kid else {})

    await scene.refused(jwt.encode(scene.standin.claims(), stranger, "RS256", headers))

    assert not [path for path in scene.standin.asked if path == "/brought"]


async def test_a_key_that_a_true_jwt_brings_does_no_harm(scene: Scene) -> None:
    """Members of the header that mean nothing here are ignored, as RFC 7515 has it."""
    assert await scene.proven(scene.signed({"alg": "RS256", "kid": "one", "jku": "https://evil.example", "x": 1}))


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_a_changed_jwt_proves_nobody(scene: Scene, part: int) -> None:
    """One letter of header, payload or signature changed, and it doesn't hold, though it held a moment before."""
    token = scene.standin.token()
    await scene.proven(token)
    parts = token.split(".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + ("B" if parts[part][middle] == "A" else "A") + parts[part][middle + 1 :]

    assert await scene.refused(".".join(parts))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"crit": ["exp"]}, "critical extensions"),
        ({"crit": []}, "critical extensions"),
        ({"crit": ["b64"], "b64": False}, "critical extensions"),
        ({"b64": False}, "DecodeError"),
        ({"kid": 1}, "its kid is no text"),
        ({"kid": ["one"]}, "its kid is no text"),
        ({"kid": "../../dev/null"}, "fits its kid"),
        ({"kid": "one' OR '1'='1"}, "fits its kid"),
        ({"typ": "logout+jwt"}, "its type is not taken"),
        ({"typ": "secevent+jwt"}, "its type is not taken"),
        ({"typ": None}, "its type is not taken"),
        ({"typ": ["JWT"]}, "its type is not taken"),
    ],
)
async def test_a_header_that_asks_for_more_is_refused(scene: Scene, header: dict[str, Any], reason: str) -> None:
    """Critical extensions, IDs that are none, and what is signed for another purpose: refused, with a true signature too."""
    assert reason in await scene.refused(scene.signed({"alg": "RS256", "kid": "one"} | header))


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'"a"', b"{", b"\xff", b"[" * 5_000])
async def test_a_payload_that_holds_no_claims_is_refused(scene: Scene, payload: bytes) -> None:
    """What isn't a JSON object has no claims, whoever signed it."""
    token = forged({"alg": "RS256", "kid": "one"}, payload or b" ", by_rsa)

    assert await scene.refused(token) == "DecodeError"


@pytest.mark.parametrize("header", [b"eyJ", b"[]", b"null", b'{"alg":', b"\xff\xff", b"[" * 5_000])
async def test_a_header_that_is_none_is_refused(scene: Scene, header: bytes) -> None:
    """What can't be read as a header is refused like any other, though it has a JWT's form."""
    token = forged(header, scene.standin.claims(), by_rsa)

    with capture_logs(), pytest.raises(CredentialsInvalid):
        await scene.identity.verify(Jwt(token))


async def test_a_huge_jwt_is_not_looked_at(scene: Scene) -> None:
    """8 KiB are read, and no more."""
    claims = scene.standin.claims()
    room = 8 * 1024 - len(scene.signed({"alg": "RS256", "kid": "one"}, more="x" * 3_000))
    fits = scene.signed({"alg": "RS256", "kid": "one"}, more="x" * (3_000 + room * 3 // 4 - 3))

    assert 8 * 1024 - 8 < len(fits) <= 8 * 1024
    assert await scene.proven(fits)
    with pytest.raises(CredentialsInvalid) as refusal:
        await scene.proven(forged({"alg": "RS256", "kid": "one"}, claims | {"more": "x" * 7_000}, by_rsa))
    assert refusal.value.recorded_as == "credential-too-large"


# --- attacks on the claims


@pytest.mark.parametrize("slip", ["https://somebody.example", "", None, "{issuer}/", "{issuer} ", ["{issuer}"], 1, True, {"{issuer}": 1}])
async def test_the_issuer_must_be_exactly_the_one(scene: Scene, slip: Any) -> None:
    """Another issuer, the same with a slash more, and whatever isn't a text."""
    wrong = json.loads(json.dumps(slip).replace("{issuer}", scene.standin.issuer))

    assert await scene.refused(scene.signed({"alg": "RS256", "kid": "one"}, iss=wrong))


@pytest.mark.parametrize(
    "aud",
    ["another", "flxpoint-gateway-2", "FLXPOINT-GATEWAY", "", None, [], ["another"], [AUDIENCE, 1], [[AUDIENCE]], {AUDIENCE: 1}, 1, True],
)
async def test_the_audience_must_hold_the_gateways(scene: Scene, aud: Any) -> None:
    """A JWT for others proves nothing here, nor one whose audience isn't a text or a list of texts."""
    assert await scene.refused(scene.standin.token(aud=aud))


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["another", AUDIENCE]])
async def test_a_jwt_may_be_for_others_too(scene: Scene, aud: Any) -> None:
    """One of several audiences is enough."""
    assert await scene.proven(scene.standin.token(aud=aud))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": NOW - 30}, "it has expired"),
        ({"exp": NOW - 30.5}, "it has expired"),
        ({"exp": 0}, "it has expired"),
        ({"exp": -1}, "it has expired"),
        ({"exp": None}, "MissingRequiredClaimError"),
        ({"nbf": NOW + 31}, "its time has not come"),
        ({"iat": NOW + 31}, "its time has not come"),
        ({"exp": True}, "its exp is no moment"),
        ({"exp": [NOW]}, "its exp is no moment"),
        ({"exp": {}}, "its exp is no moment"),
        ({"nbf": False}, "its nbf is no moment"),
    ],
)
async def test_a_jwt_is_good_for_its_time(scene: Scene, changed: dict[str, Any], reason: str) -> None:
    """Expired by 30 s, not valid for another 30 s, without an end, or with an end that isn't a number."""
    assert await scene.refused(scene.signed({"alg": "RS256", "kid": "one"}, **changed)) == reason


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "written",
    [
        b'"1800000300"',
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-Infinity",
        b"null",
        b"1" + b"0" * 400,
        b"1" * 5_000,
        b"1800000300000",
        b"1e18",
        b"253402300800",
    ],
)
async def test_a_time_must_be_a_number_of_seconds(scene: Scene, name: str, written: bytes) -> None:
    """A text that looks like one, milliseconds, what is beyond the year 9999 or all numbers, and what is none are refused."""
    claims = scene.standin.claims(**{name: "HERE"})
    token = forged({"alg": "RS256", "kid": "one"}, json.dumps(claims).encode().replace(b'"HERE"', written), by_rsa)

    assert await scene.refused(token)


async def test_a_jwt_may_be_good_for_as_long_as_there_are_dates(scene: Scene) -> None:
    """The last second of the year 9999 can be shown as a date."""
    caller = await scene.proven(scene.standin.token(exp=253_402_300_799))

    assert caller.expires_at is not None
    assert datetime.fromtimestamp(caller.expires_at, UTC).year == 9999


@pytest.mark.parametrize("changed", [{"exp": NOW - 29}, {"exp": NOW - 29.5}, {"nbf": NOW + 30}, {"iat": NOW + 30}, {"iat": None}])
async def test_clocks_may_differ_by_half_a_minute(scene: Scene, changed: dict[str, Any]) -> None:
    """What is past or yet to come by less than 30 s is good."""
    assert await scene.proven(scene.standin.token(**changed))


async def test_a_jwt_that_was_verified_expires_all_the_same(scene: Scene) -> None:
    """What was good a moment ago is looked at each time."""
    token = scene.standin.token()
    await scene.proven(token)
    scene.now += 329
    last = await scene.proven(token)
    scene.now += 1

    assert last.id == SHOP.id
    assert await scene.refused(token) == "it has expired"


@pytest.mark.parametrize("changed", [{"sub": 5}, {"sub": ["user-1"]}, {"jti": 5}])
async def test_names_must_be_texts(scene: Scene, changed: dict[str, Any]) -> None:
    """A subject or an ID that isn't a text is refused (RFC 7519, section 4.1)."""
    assert await scene.refused(scene.signed({"alg": "RS256", "kid": "one"}, **changed))


# --- whose it is


async def test_a_jwt_of_no_caller_is_refused(scene: Scene) -> None:
    """A good JWT whose claims nobody declares proves nobody."""
    assert await scene.refused(scene.standin.token(azp="somebody")) == "its claims are no caller's"


async def test_a_jwt_of_two_callers_is_refused(scene: Scene) -> None:
    """An operator learns which two; nobody is guessed."""
    scene.know(Known(SHOP, {"azp": "shop-frontend"}), Known(DESK, {"sub": "user-1"}))

    assert await scene.refused(scene.standin.token()) == "its claims are ambiguous: they are those of shop, desk"


async def test_nested_claims_and_lists_choose_the_caller(scene: Scene) -> None:
    """Roles as providers write them."""
    scene.know(Known(SHOP, {"realm_access.roles": "linker"}), Known(DESK, {"https://x.example/role": "desk"}))

    assert (await scene.proven(scene.standin.token(realm_access={"roles": ["viewer", "linker"]}))).id == SHOP.id
    assert (await scene.proven(scene.signed({"alg": "RS256", "kid": "one"}, **{"https://x.example/role": "desk"}))).id == DESK.id


@pytest.mark.parametrize("azp", ["Käse ☃", "\U0001f9c0", "a\u0000b", "\ud83e"])
async def test_claims_may_have_any_letters(scene: Scene, azp: str) -> None:
    """Whatever JSON can spell is compared as it is."""
    scene.know(Known(SHOP, {"azp": azp}))

    assert (await scene.proven(scene.signed({"alg": "RS256", "kid": "one"}, azp=azp))).id == SHOP.id


async def test_changes_of_callers_count_at_once(scene: Scene) -> None:
    """A caller that was disabled, and claims that were changed, have their effect on JWTs that were good before."""
    token = scene.standin.token()
    await scene.proven(token)
    scene.know(Known(DESK, {"azp": "desk"}))
    gone = await scene.refused(token)
    scene.know(Known(DESK, {"azp": "shop-frontend"}))

    assert gone == "its claims are no caller's"
    assert (await scene.proven(token)).id == DESK.id


# --- the keys


async def test_a_withdrawn_keys_jwts_are_refused(scene: Scene) -> None:
    """What was verified by a key that the provider doesn't publish any more isn't good any more."""
    token = scene.standin.token()
    await scene.proven(token)
    scene.standin.publish(jwk_of(private_key("RS256", 1), kid="new"))
    await scene.keys.refresh()

    assert "fits its kid" in await scene.refused(token)
    assert await scene.proven(scene.standin.token("new", by=private_key("RS256", 1)))


async def test_a_key_that_was_exchanged_under_its_id_is_noticed(scene: Scene) -> None:
    """The same ID with another key: the old signatures are gone."""
    token = scene.standin.token()
    await scene.proven(token)
    scene.standin.publish(jwk_of(private_key("RS256", 1), kid="one"))
    await scene.keys.refresh()

    assert await scene.refused(token) == "InvalidSignatureError"


async def test_a_new_keys_first_jwt_is_verified(scene: Scene) -> None:
    """A rollover is seen by the JWT that tells of it."""
    scene.standin.publish(*scene.standin.jwks, jwk_of(private_key("RS256", 1), kid="new"))

    assert await scene.proven(scene.standin.token("new", by=private_key("RS256", 1)))


async def test_a_jwt_without_a_key_id_is_of_the_only_key(scene: Scene) -> None:
    """With one key that fits it can be told whose it is; with two it can't."""
    assert (await scene.proven(scene.standin.token(None, "ES256"))).id == SHOP.id
    assert "more than one" in await scene.refused(scene.standin.token(None, "RS256"))


@pytest.mark.parametrize(("algorithm", "number"), [("EdDSA", 0), ("ES256", 1)], ids=["no key fits", "the signature fails"])
async def test_a_new_key_is_noticed_by_a_jwt_without_a_key_id(scene: Scene, algorithm: str, number: int) -> None:
    """At a rollover the only key is exchanged; the first JWT that the old one doesn't verify has the keys fetched, and is verified."""
    scene.standin.publish(jwk_of(private_key("ES256")))
    await scene.keys.refresh()
    await scene.proven(scene.standin.token(None, "ES256"))
    new = private_key(algorithm, number)
    scene.standin.publish(jwk_of(new))

    assert (await scene.proven(scene.standin.token(None, algorithm, by=new))).id == SHOP.id


async def test_a_forged_jwt_without_a_key_id_asks_once_a_minute(scene: Scene) -> None:
    """Who signs with keys of its own doesn't have the provider flooded; what is wrong otherwise asks for nothing."""
    before = scene.standin.asked[KEYS]
    await scene.refused(scene.standin.token(None, "ES256", aud="others"))
    wrong = scene.standin.asked[KEYS]
    for number in range(1, 6):
        await scene.refused(scene.standin.token(None, "ES256", by=private_key("ES256", number)))

    assert (wrong - before, scene.standin.asked[KEYS] - wrong) == (0, 1)


async def test_what_is_wrong_is_refused_without_keys_too(scene: Scene) -> None:
    """Before any key is known, a JWT that could never hold is 401, and one that might is 503."""
    documents = open_documents()
    keyless = Scene(scene.standin, ProviderKeys("http://127.0.0.1:1", documents, lambda: 0.0))

    assert await keyless.refused(forged({"alg": "none"}, scene.standin.claims())) == "its algorithm is not taken"
    with pytest.raises(TokenUnavailable) as unavailable:
        await keyless.proven(scene.standin.token())
    assert unavailable.value.retry_after == 1
    await documents.aclose()


# --- what is kept


async def test_a_signature_is_verified_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same JWT again costs no signature."""
    token = scene.standin.token()
    await scene.proven(token)
    monkeypatch.setattr(jwt, "decode", None)

    assert (await scene.proven(token)).credential_id == "jwt:user-1"


async def test_what_is_kept_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest makes room, and is verified again; nothing is kept of what was refused."""
    monkeypatch.setattr(scene.identity, "_verified", VerifiedJwts(most=3))
    tokens = [scene.standin.token("two", "ES256", sub=f"user-{number}") for number in range(5)]
    for token in tokens:
        await scene.proven(token)
        await scene.refused(token[:-2])
    first = (await scene.proven(tokens[0])).credential_id
    monkeypatch.setattr(jwt, "decode", None)

    assert first == "jwt:user-0"
    assert [(await scene.proven(tokens[number])).credential_id for number in (0, 3, 4)] == ["jwt:user-0", "jwt:user-3", "jwt:user-4"]
    with pytest.raises(TypeError):
        await scene.proven(tokens[2])


async def test_the_log_holds_nothing_of_a_jwt(scene: Scene) -> None:
    """Neither its parts nor its claims' values: only why it was refused."""
    secret = "a-value-that-must-not-be-logged"
    tokens = [
        scene.signed({"alg": secret, "kid": "one"}),
        scene.signed({"alg": "RS256", "kid": secret}),
        scene.signed({"alg": "RS256", "kid": "one", "typ": secret}),
        scene.signed({"alg": "RS256", "kid": "one"}, iss=secret),
        scene.signed({"alg": "RS256", "kid": "one"}, aud=secret),
        scene.signed({"alg": "RS256", "kid": "one"}, azp=secret, sub=secret),
        scene.signed({"alg": "RS256", "kid": "one"}, exp=secret),
        scene.signed({"alg": "RS256", "kid": "one"}, exp=1, sub=secret),
    ]
    with capture_logs() as lines:
        for token in tokens:
            with pytest.raises(CredentialsInvalid):
                await scene.proven(token)

    assert len([line for line in lines if line["event"] == "a JWT was refused"]) == len(tokens)
    assert secret not in str(lines)
    assert not [token for token in tokens if any(part in str(lines) for part in token.split("."))]


# --- which JWTs


@pytest.mark.parametrize("typ", ["flxpoint-ticket+jwt", "Flxpoint-Ticket+JWT", "application/flxpoint-ticket+jwt"])
async def test_tickets_are_left_to_others(scene: Scene, typ: str) -> None:
    """A ticket of the gateway's own isn't this verifier's, and doesn't hold here if it is asked all the same."""
    token = scene.signed({"alg": "RS256", "kid": "one", "typ": typ})

    assert not scene.identity.recognises(Jwt(token))
    with capture_logs(), pytest.raises(CredentialsInvalid):
        await scene.identity.verify(Jwt(token))


@pytest.mark.parametrize("text", ["eyJ.e.", "eyJ" + "A" * 20_000 + ".e.e", "eyJhIjoxfQ.e.e"])
async def test_all_other_jwts_are_taken_on(text: str) -> None:
    """Whatever can't be read is this verifier's to refuse."""
    identity = IdentityProvider("https://login.example", AUDIENCE, None, Directory())  # type: ignore[arg-type]

    assert identity.recognises(Jwt(text))


JSONS = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9), st.lists, max_leaves=5)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty"]), st.sampled_from(["RS256", "one", "JWT"]) | JSONS),
    st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "azp"]), JSONS),
)
async def test_whatever_the_provider_signs_is_taken_or_refused(scene: Scene, header: dict[str, Any], claims: dict[str, Any]) -> None:
    """No header and no claims bring about anything but a caller or the one refusal."""
    token = forged({"alg": "RS256", "kid": "one"} | header, json.dumps(scene.standin.claims() | claims).encode(), by_rsa)

    with capture_logs():
        try:
            caller = await scene.identity.verify(Jwt(token))
        except CredentialsInvalid:
            return

    assert caller.id == SHOP.id
