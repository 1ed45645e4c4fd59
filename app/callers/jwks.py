"""The identity provider's public keys, read from a JWK Set (RFC 7517). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWTError

__all__ = ["ALGORITHMS", "KeySet", "ProviderKey", "UnusableKeys", "read_key_set"]

SMALLEST_RSA_BITS = 2048
"""RFC 7518, section 3.3."""

FITTING: Mapping[tuple[object, object], frozenset[str]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
"""Which algorithms fit a key's `kty` and `crv` (RFC 7518, section 3.1; RFC 8037)."""

ALGORITHMS = frozenset[str]().union(*FITTING.values())
"""The algorithms that are taken: signatures by a key pair only, so no public key can pass for a shared secret (RFC 8725, section 2.1)."""

SECRET_MEMBERS = frozenset({"d", "k"})


class UnusableKeys(Exception):
    """A document that holds no key by which a signature can be verified; the message says why."""


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key, and the algorithms that it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    public: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class KeySet:
    """The keys of one fetch."""

    def __init__(self, keys: Iterable[ProviderKey]) -> None:
        self._keys = tuple(keys)
        self._named: defaultdict[str | None, list[ProviderKey]] = defaultdict(list)
        for key in self._keys:
            self._named[key.kid].append(key)

    def __len__(self) -> int:
        return len(self._keys)

    def lacks(self, kid: str | None) -> bool:
        """Whether there is no key of that ID, so that the provider may have made a new one."""
        return kid is not None and kid not in self._named

    def find(self, kid: str | None, algorithm: str) -> ProviderKey | None:
        """The one key that a signature can be of; None where there is none, or several, so that it can't be told.

        Without a `kid` that is the only key of the set that fits the algorithm (OpenID Connect Core, section 10.1: where there are several,
        a `kid` must be given). Keys may share an ID as long as an algorithm tells them apart (RFC 7517, section 4.5).
        """
        named = self._keys if kid is None else self._named.get(kid, ())
        fitting = [key for key in named if algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None


def read_key_set(body: bytes) -> KeySet:
    """The keys of a JWK Set that can verify signatures; what else it holds is left out (RFC 7517, section 5).

    Raises:
        UnusableKeys: it is no JWK Set, or none of its keys can.
    """
    try:
        jwks = orjson.loads(body)
    except ValueError:
        message = "the key set is not JSON"
        raise UnusableKeys(message) from None
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    keys = [key for key in map(_key, listed) if key] if isinstance(listed, list) else []
    if not keys:
        message = "the key set holds no key by which a signature can be verified"
        raise UnusableKeys(message)
    return KeySet(keys)


def _key(jwk: object) -> ProviderKey | None:
    algorithms = _algorithms(jwk) if isinstance(jwk, dict) and _verifies(jwk) else None
    if not algorithms:
        return None
    try:
        public = PyJWK(jwk, min(algorithms)).key  # type: ignore[arg-type]
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < SMALLEST_RSA_BITS:
        return None
    return ProviderKey(jwk.get("kid"), algorithms, public)  # type: ignore[attr-defined]


def _verifies(jwk: Mapping[str, object]) -> bool:
    """Whether a key is for verifying signatures, and for the public: one whose secret is published proves nothing."""
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and isinstance(jwk.get("kid"), str | None)
        and not SECRET_MEMBERS & jwk.keys()
    )


def _algorithms(jwk: Mapping[str, object]) -> frozenset[str]:
    """The algorithms that a key's type takes; only its own where it names one."""
    kty, crv, alg = (jwk.get(name) for name in ("kty", "crv", "alg"))
    fitting = FITTING.get((kty, crv), frozenset()) if isinstance(kty, str) and isinstance(crv, str | None) else frozenset()
    return fitting if alg is None else frozenset(one for one in fitting if one == alg)
