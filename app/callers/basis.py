"""What a credential rests on, as a mark: when that is taken back, the mark is in the directory no more. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

__all__ = ["basis_of_claims", "basis_of_key"]

LENGTH = 32  # hexadecimal digits: 128 bits


def basis_of_key(caller_id: str, key_id: str, sha256: bytes) -> str:
    """A gateway key's mark: with another secret under its ID it is another key. Pages see it in tickets, so it doesn't show the hash."""
    return _mark("key", caller_id, key_id, sha256.hex())


def basis_of_claims(caller_id: str, claims: Mapping[str, str]) -> str:
    """The mark of the claims that a caller declares, in whichever order."""
    return _mark("claims", caller_id, json.dumps(claims, sort_keys=True))


def _mark(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:LENGTH]
