"""What is known of JWTs that were verified, so that a signature costs its time once."""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

from app.callers.presented import Jwt

__all__ = ["VerifiedJwts"]

MOST = 1_000
Claims = TypeVar("Claims")


class VerifiedJwts(Generic[Claims]):
    """What was read of the latest JWTs that held, by the SHA-256 of their bytes.

    Only what the bytes alone say may be kept: not whether their time has come, nor whose they are now.

    Args:
        most: how many are kept; the oldest makes room.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._claims: dict[bytes, Claims] = {}

    def get(self, jwt: Jwt) -> Claims | None:
        """What is kept of a JWT; None where it wasn't verified lately."""
        return self._claims.get(_digest_of(jwt))

    def keep(self, jwt: Jwt, claims: Claims) -> None:
        """Keep what was read of a JWT that held."""
        digest = _digest_of(jwt)
        self._claims.pop(digest, None)
        while len(self._claims) >= self._most:
            del self._claims[next(iter(self._claims))]
        self._claims[digest] = claims


def _digest_of(jwt: Jwt) -> bytes:
    return hashlib.sha256(jwt.text.encode()).digest()
