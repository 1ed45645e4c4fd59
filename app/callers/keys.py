"""Gateway keys: `fgk_<id>_<secret>`, 256 bits of secret, of which only a SHA-256 is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

__all__ = ["GatewayKey", "make_key", "parse_key"]

KEY_PATTERN = re.compile(r"fgk_([0-9a-f]{12})_([0-9A-Za-z_-]{43})", re.ASCII)
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key in two parts: the ID that names it in logs and records, and the secret, which is shown once."""

    id: str
    secret: str = field(repr=False)

    @property
    def sha256(self) -> bytes:
        """What is kept of the secret. It has 256 random bits, so a plain hash withstands guessing."""
        return hashlib.sha256(self.secret.encode("ascii")).digest()

    def reveal(self) -> str:
        """The whole key, to be shown once."""
        return f"fgk_{self.id}_{self.secret}"


def make_key() -> GatewayKey:
    """A new key from the system's random source."""
    return GatewayKey(secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES))


def parse_key(text: str) -> GatewayKey | None:
    """The key that the text is, if it has a key's form."""
    match = KEY_PATTERN.fullmatch(text)
    return GatewayKey(match[1], match[2]) if match else None
