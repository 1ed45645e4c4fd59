"""What is signed: checkpoints, which fix a chain's head, and tombstones, which stand for what was removed. Ed25519 (RFC 8032)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.audit.canonical import canonical
from app.audit.chain import Head
from app.domain import utc_now

__all__ = ["Archived", "KeyUnknown", "Seal", "SignatureWrong", "Signer", "Trusted", "key_id_of"]

SHORT_ID = 16


class KeyUnknown(Exception):
    """A seal's signing key is none of those that are trusted."""


class SignatureWrong(Exception):
    """A seal isn't what its key signed, or isn't a seal at all."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A signed statement: `body` is its canonical JSON.

    Its members: `kind` (`checkpoint` or `tombstone`), `chain`, `seq` and `hash` (in hex) of the last record that it covers, `at`, and
    `key`, the ID of the key that signed. A checkpoint has `previous`, the `seq` of the one before it in the chain (0: none). A tombstone
    has `first`, the `seq` of the first record that it stands for, `before`, the time before which records were removed, and, where they
    were exported, `file` and `sha256` of the archive.
    """

    body: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Archived:
    """Where removed records are kept: the file's name, and the SHA-256 of its content in hex."""

    file: str
    sha256: str


def key_id_of(public: bytes) -> str:
    """A signing key's ID: the first 16 hex digits of its public half's SHA-256."""
    return hashlib.sha256(public).hexdigest()[:SHORT_ID]


class Signer:
    """Signs checkpoints and tombstones.

    Args:
        seed: the 32 bytes of the signing key.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public)

    @property
    def public_pem(self) -> str:
        """The public half as PEM (RFC 7468), for those who verify elsewhere."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def checkpoint(self, head: Head, previous: int) -> Seal:
        """Fix a chain's head; `previous` is the `seq` of the checkpoint before it."""
        return self._sign({"kind": "checkpoint", **head.members(), "previous": previous})

    def tombstone(self, last: Head, *, first: int, before: str, archived: Archived | None) -> Seal:
        """Stand for a chain's records from `first` up to `last`."""
        members: dict[str, object] = {"kind": "tombstone", **last.members(), "first": first, "before": before}
        if archived:
            members |= {"file": archived.file, "sha256": archived.sha256}
        return self._sign(members)

    def _sign(self, members: dict[str, object]) -> Seal:
        body = canonical({**members, "at": utc_now(), "key": self.key_id})
        return Seal(body.decode(), self._key.sign(body))


class Trusted:
    """The public keys whose signatures are believed.

    Args:
        publics: each in its 32 bytes.
    """

    def __init__(self, *publics: bytes) -> None:
        self._keys = {key_id_of(public): Ed25519PublicKey.from_public_bytes(public) for public in publics}

    def check(self, body: bytes, signature: bytes) -> dict[str, object]:
        """The members of a seal.

        Raises:
            KeyUnknown: it names a key that isn't trusted.
            SignatureWrong: it isn't what that key signed.
        """
        try:
            members: dict[str, object] = orjson.loads(body)
            key = self._keys.get(str(members["key"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SignatureWrong from error
        if key is None:
            raise KeyUnknown(str(members["key"]))
        try:
            key.verify(signature, body)
        except InvalidSignature as error:
            raise SignatureWrong from error
        return members
