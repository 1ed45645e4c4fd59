"""Tickets as text: what the key signs it reads, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from app.callers import Jwt, TicketKey
from app.callers.ticket_key import is_ticket
from app.errors import CredentialsInvalid

from .tickets import KEY, SEED, made

PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = PRIVATE.public_key()
GOOD = KEY.sign(made())
TYPE = "flxpoint-ticket+jwt"


def header_of(text: str) -> dict[str, Any]:
    """A JWT's header."""
    return dict(jwt.get_unverified_header(text))


def claims_of(text: str) -> dict[str, Any]:
    """A JWT's claims, unproven."""
    return dict(jwt.decode(text, options={"verify_signature": False}))


def encoded(part: object) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).rstrip(b"=").decode()


def forged(header: dict[str, Any], claims: dict[str, Any], signature: str | None = None) -> str:
    """A JWT of these parts, signed by our own key unless a signature is given: what a forger would need."""
    text = f"{encoded(header)}.{encoded(claims)}"
    if signature is None:
        signature = base64.urlsafe_b64encode(PRIVATE.sign(text.encode())).rstrip(b"=").decode()
    return f"{text}.{signature}"


def with_hmac(secret: bytes) -> str:
    """The ticket, signed with HS256 and a secret that everybody knows."""
    import hashlib  # noqa: PLC0415 - of this forgery alone
    import hmac  # noqa: PLC0415 - of this forgery alone

    header = header_of(GOOD) | {"alg": "HS256"}
    text = f"{encoded(header)}.{encoded(claims_of(GOOD))}"
    digest = hmac.digest(secret, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def altered(**claims: Any) -> str:
    """The good ticket with other claims under the good signature."""
    return forged(header_of(GOOD), claims_of(GOOD) | claims, GOOD.rpartition(".")[2])


def without(claim: str) -> str:
    """A ticket of our own key that lacks a claim."""
    return forged(header_of(GOOD), {name: value for name, value in claims_of(GOOD).items() if name != claim})


FORGERIES: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: forged(header_of(GOOD) | {"alg": "none"}, claims_of(GOOD), ""),
    "no algorithm, in capitals": lambda: forged(header_of(GOOD) | {"alg": "None"}, claims_of(GOOD), ""),
    "no algorithm, our signature": lambda: forged(header_of(GOOD) | {"alg": "none"}, claims_of(GOOD)),
    "HS256 with the raw public key": lambda: with_hmac(PUBLIC.public_bytes_raw()),
    "HS256 with the public key in PEM": lambda: with_hmac(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    "HS256 with nothing": lambda: with_hmac(b""),
    "another algorithm, our signature": lambda: forged(header_of(GOOD) | {"alg": "ES256"}, claims_of(GOOD)),
    "another Ed25519 key": lambda: TicketKey(bytes(32)).sign(made()),
    "another key under our key's ID": lambda: jwt.encode(
        claims_of(GOOD), Ed25519PrivateKey.generate(), "EdDSA", headers={"typ": TYPE, "kid": header_of(GOOD)["kid"]}
    ),
    "the forger's key in the header": lambda: jwt.encode(
        claims_of(GOOD), Ed25519PrivateKey.from_private_bytes(bytes(32)), "EdDSA", headers=header_of(GOOD) | {"jwk": {"kty": "OKP"}}
    ),
    "another key ID": lambda: forged(header_of(GOOD) | {"kid": "0123456789abcdef"}, claims_of(GOOD)),
    "no key ID": lambda: forged({"alg": "EdDSA", "typ": TYPE}, claims_of(GOOD)),
    "another type": lambda: forged(header_of(GOOD) | {"typ": "JWT"}, claims_of(GOOD)),
    "another type, in capitals": lambda: forged(header_of(GOOD) | {"typ": TYPE.upper()}, claims_of(GOOD)),
    "no type": lambda: forged({"alg": "EdDSA", "kid": header_of(GOOD)["kid"]}, claims_of(GOOD)),
    "a critical extension": lambda: forged(header_of(GOOD) | {"crit": ["exp"]}, claims_of(GOOD)),
    "another caller": lambda: altered(sub="caller-2"),
    "another key that it was asked with": lambda: altered(bas="basis-2"),
    "another origin": lambda: altered(org="https://evil.example"),
    "another token": lambda: altered(tok="token-2"),
    "more operations": lambda: altered(ops=["link-orders", "other"]),
    "more IDs": lambda: altered(ids=[1, 2, 3]),
    "more time": lambda: altered(exp=2_000_000_000),
    "another issuer": lambda: forged(header_of(GOOD), claims_of(GOOD) | {"iss": "elsewhere"}),
    "another audience": lambda: forged(header_of(GOOD), claims_of(GOOD) | {"aud": "elsewhere"}),
    "no signature": lambda: GOOD.rpartition(".")[0] + ".",
    "half a signature": lambda: GOOD[:-43],
    "another ticket's signature": lambda: f"{GOOD.rpartition('.')[0]}.{KEY.sign(made(caller_id='caller-2')).rpartition('.')[2]}",
    "no claims": lambda: forged(header_of(GOOD), {}),
    "a list for claims": lambda: forged(header_of(GOOD), []),  # type: ignore[arg-type]
    "nothing for claims": lambda: forged(header_of(GOOD), None),  # type: ignore[arg-type]
    "a part too many": lambda: f"{GOOD.partition('.')[0]}.{GOOD}",
    "a part too few": lambda: GOOD.partition(".")[2],
    "our header in another order": lambda: forged(dict(reversed(header_of(GOOD).items())), claims_of(GOOD)),
    "a header of brackets": lambda: base64.urlsafe_b64encode(b'{"x":' + b"[" * 30_000).decode() + ".e30.e30",
    "a header that is no JSON": lambda: "eyJ.e30.e30",
    "an empty text": lambda: "",
}


def test_a_ticket_is_read_as_it_was_signed() -> None:
    """All of its terms come back, the largest IDs too; its token's name stays at home."""
    ticket = made(parameter="orderIds", ids=(1, 2**63 - 1))

    assert KEY.read(Jwt(KEY.sign(ticket))) == ticket
    assert KEY.read(Jwt(KEY.sign(made(token_name="shop")))) == made()


def test_forgeries_are_refused_for_what_is_wrong_with_them_alone() -> None:
    """A ticket that is put together as the forgeries are, of the right parts, holds."""
    assert KEY.read(Jwt(forged(header_of(GOOD), claims_of(GOOD)))) == made()


def test_others_can_verify_a_ticket_by_the_public_key() -> None:
    """It is a JWT as any library reads them."""
    assert jwt.decode(GOOD, PUBLIC, ["EdDSA"], {"verify_exp": False, "verify_iat": False}, audience="flxpoint-gateway") == claims_of(GOOD)


def test_a_ticket_says_what_it_is() -> None:
    """It has a type, an algorithm and a key ID of its own, an issuer and an audience (RFC 8725, sections 3.8 to 3.11)."""
    claims = claims_of(GOOD)

    assert header_of(GOOD).keys() == {"typ", "alg", "kid"}
    assert (header_of(GOOD)["typ"], header_of(GOOD)["alg"]) == (TYPE, "EdDSA")
    assert {name: claims[name] for name in ("iss", "aud", "sub", "bas", "org", "tok", "ops")} == {
        "iss": "flxpoint-gateway",
        "aud": "flxpoint-gateway",
        "sub": "caller-1",
        "bas": "basis-1",
        "org": "https://shop.example",
        "tok": "token-1",
        "ops": ["link-orders"],
    }
    assert "ids" not in claims


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forgery_proves_nobody(forge: Callable[[], str]) -> None:
    """Whatever is wrong with it, the answer is the same."""
    with pytest.raises(CredentialsInvalid) as refused:
        KEY.read(Jwt(forge()))

    assert refused.value.detail == "the credential is not valid"


@pytest.mark.parametrize("claim", ["iss", "aud", "jti", "iat", "exp", "sub", "bas", "org", "tok", "ops"])
def test_a_ticket_without_a_claim_is_none(claim: str) -> None:
    """Nothing that bounds a ticket is taken for granted, as what it rests on was before tickets said that."""
    with pytest.raises(CredentialsInvalid):
        KEY.read(Jwt(without(claim)))


@pytest.mark.parametrize("part", [0, 1, 2])
@given(data=st.data())
def test_a_changed_character_breaks_it(part: int, data: st.DataObject) -> None:
    """No character of header, claims or signature can be another (but those whose last bits say nothing)."""
    parts = GOOD.split(".")
    place = data.draw(st.integers(0, len(parts[part]) - 2))
    letter = data.draw(st.sampled_from("AZaz09-_").filter(lambda one: one != parts[part][place]))
    parts[part] = parts[part][:place] + letter + parts[part][place + 1 :]

    with pytest.raises(CredentialsInvalid):
        KEY.read(Jwt(".".join(parts)))


@given(st.text(st.characters(codec="ascii"), max_size=200))
def test_no_text_brings_it_down(text: str) -> None:
    """Whatever is presented, the answer is that it proves nobody."""
    with pytest.raises(CredentialsInvalid):
        KEY.read(Jwt(f"eyJ{text}"))

    assert not is_ticket(Jwt(f"eyJ{text}"))


def test_tickets_are_recognised_by_their_type_alone() -> None:
    """A provider's JWT is left to its own verifier, and a header that can't be read is nobody's."""
    assert is_ticket(Jwt(GOOD))
    assert is_ticket(Jwt(TicketKey(bytes(32)).sign(made())))
    assert not is_ticket(Jwt(FORGERIES["another type"]()))
    assert not is_ticket(Jwt(FORGERIES["a header of brackets"]()))
