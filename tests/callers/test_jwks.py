from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import algorithms

from app.callers.jwks import ALGORITHMS, KeySet, UnusableKeys, read_key_set

from .standin import jwk_of, private_key

RSA = private_key("RS256")
RSA_JWK = jwk_of(RSA)
RSA_ALGORITHMS = ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]


def read(*keys: Any) -> KeySet:
    """The keys of a set."""
    return read_key_set(json.dumps({"keys": keys}).encode())


def private_jwk(private: Any) -> dict[str, Any]:
    """The whole key pair as a JWK, as nobody should publish it."""
    writer: Any = {"RSA": algorithms.RSAAlgorithm, "EC": algorithms.ECAlgorithm, "OKP": algorithms.OKPAlgorithm}[jwk_of(private)["kty"]]
    return {**writer.to_jwk(private, as_dict=True), "key_ops": ["verify"]}


def taken(jwk: dict[str, Any]) -> list[str]:
    """The algorithms with which a key is found in a set, beside another that is always good."""
    keys = read(jwk, jwk_of(private_key("EdDSA"), kid="another"))
    return sorted(one for one in ALGORITHMS | {"HS256", "none", "ES256K"} if keys.find(jwk["kid"], one))


def test_algorithms_are_those_of_key_pairs() -> None:
    """No algorithm with a shared secret is taken, nor one without a signature."""
    assert sorted(ALGORITHMS) == sorted(["EdDSA", "ES256", "ES384", "ES512", *RSA_ALGORITHMS])


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (RSA_JWK, RSA_ALGORITHMS),
        (jwk_of(RSA, use=None), RSA_ALGORITHMS),
        (jwk_of(RSA, alg="PS384"), ["PS384"]),
        (jwk_of(RSA, key_ops=["verify"]), RSA_ALGORITHMS),
        (jwk_of(private_key("ES256")), ["ES256"]),
        (jwk_of(private_key("ES384")), ["ES384"]),
        (jwk_of(private_key("ES512"), alg="ES512"), ["ES512"]),
        (jwk_of(private_key("EdDSA")), ["EdDSA"]),
        (RSA_JWK | {"x5c": ["no certificate"], "x5t": 1, "ext": True}, RSA_ALGORITHMS),
    ],
)
def test_a_key_takes_the_algorithms_that_fit_it(jwk: dict[str, Any], expected: list[str]) -> None:
    """Type and curve say which algorithms a key is for, and its own `alg` narrows them; members that aren't known change nothing."""
    assert taken(jwk | {"kid": "k"}) == expected


@pytest.mark.parametrize(
    "jwk",
    [
        jwk_of(private_key("RS256", 0, 1024)),
        jwk_of(RSA, use="enc"),
        jwk_of(RSA, use=["sig"]),
        jwk_of(RSA, key_ops=["encrypt"]),
        jwk_of(RSA, key_ops="verify"),
        jwk_of(RSA, alg="ES256"),
        jwk_of(RSA, alg="HS256"),
        jwk_of(RSA, alg="none"),
        jwk_of(RSA, alg="RSA-OAEP"),
        jwk_of(RSA, alg=256),
        jwk_of(RSA, kty="EC"),
        jwk_of(RSA, kty=["RSA"]),
        jwk_of(RSA, crv="P-256"),
        jwk_of(RSA, n=None),
        jwk_of(RSA, n=5),
        jwk_of(RSA, n="*"),
        jwk_of(RSA, e="AQ"),
        private_jwk(private_key("RS256")),
        private_jwk(private_key("ES256")),
        private_jwk(private_key("EdDSA")),
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM"},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM", "alg": "HS256", "use": "sig"},
        jwk_of(ec.generate_private_key(ec.SECP256K1())),
        jwk_of(private_key("ES256"), crv="P-384"),
        jwk_of(private_key("ES256"), y=jwk_of(private_key("ES256"))["x"]),
        algorithms.OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True),
        {},
    ],
)
def test_a_key_that_must_not_verify_is_left_out(jwk: dict[str, Any]) -> None:
    """Short, secret, misshapen, off its curve, for encryption, or for an algorithm that isn't its own: such a key is as good as none."""
    assert taken(jwk | {"kid": "k"}) == []


@pytest.mark.parametrize("kid", [5, ["k"], {}, True])
def test_a_key_whose_id_is_no_text_is_left_out(kid: Any) -> None:
    """Nothing can name it."""
    with pytest.raises(UnusableKeys):
        read(RSA_JWK | {"kid": kid})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":"RSA"}',
        b'{"keys":[null,1,"a",[]]}',
        b"\xff",
        b"[" * 9_999,
    ],
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    """Garbage, and a set without a usable key, is told apart from keys."""
    with pytest.raises(UnusableKeys):
        read_key_set(body)


# --- which key


def test_without_an_id_the_only_fitting_key_is_taken() -> None:
    """A JWT without `kid` is of the one key that fits its algorithm; with two of them it can't be told, so it is none's."""
    one = read(RSA_JWK | {"kid": "a"}, jwk_of(private_key("ES256")))
    two = read(RSA_JWK | {"kid": "a"}, jwk_of(private_key("RS256", 1), kid="b"))

    assert one.find(None, "RS256")
    assert one.find(None, "ES256")
    assert two.find(None, "RS256") is None


def test_a_doubled_id_is_no_keys() -> None:
    """Two keys of one ID that fit the same algorithm can't be told apart; where the algorithm tells them apart, they can."""
    doubled = read(RSA_JWK | {"kid": "a"}, jwk_of(private_key("RS256", 1), kid="a"), jwk_of(private_key("ES256"), kid="a"))

    assert doubled.find("a", "RS256") is None
    assert doubled.find("a", "ES256")


def test_a_key_without_an_id_is_not_found_by_one() -> None:
    """An ID that no key has is nobody's, even where there is one key only."""
    keys = read(RSA_JWK)

    assert keys.find("a", "RS256") is None
    assert keys.lacks("a")


def test_a_jwt_without_an_id_tells_of_no_new_key() -> None:
    """Only an ID that no key has does."""
    keys = read(RSA_JWK | {"kid": "a"})

    assert keys.lacks("b")
    assert not keys.lacks("a")
    assert not keys.lacks(None)


MEMBERS = ["kty", "crv", "alg", "use", "key_ops", "kid", "n", "e", "x", "y", "d"]
VALUES = [*RSA_JWK.values(), "EC", "P-256", "OKP", "Ed25519", "ES256", "", "ß", 0, -1, 1.5, None, True, [], ["verify"], {}]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(VALUES)), max_size=3))
def test_no_key_set_makes_reading_fail(keys: list[Any]) -> None:
    """Whatever a set holds, it is read, or refused in the one way."""
    try:
        found = read_key_set(orjson.dumps({"keys": keys}))
    except UnusableKeys:
        return

    assert len(found) <= len(keys)
