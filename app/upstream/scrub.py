"""Scrubbing: a token's value is taken out of whatever came back, in every form in which it may stand there."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

from app.domain import TokenValue

__all__ = ["MASK", "Scrubber"]

MASK = "•••"


class Scrubber:
    """Finds one token's value: plain, URL-encoded, JSON-escaped, and in base64 at its three alignments (RFC 4648, both alphabets)."""

    def __init__(self, value: TokenValue) -> None:
        plain = value.reveal()
        forms = {plain, quote(plain, safe=""), quote_plus(plain), json.dumps(plain)[1:-1], _all_percent(plain), _all_unicode(plain)}
        forms |= {form for offset in range(3) for form in _base64_forms(plain.encode(), offset)}
        self._forms = sorted({form.lower() for form in forms}, key=len, reverse=True)

    def scrub(self, text: str) -> tuple[str, int]:
        """The text with every find masked, whatever its letters' case, and how many there were."""
        small = text.lower()
        found = [form for form in self._forms if form in small]
        if not found:
            return text, 0
        return re.subn("|".join(map(re.escape, found)), MASK, text, flags=re.IGNORECASE)


def _all_percent(plain: str) -> str:
    return "".join(f"%{byte:02X}" for byte in plain.encode())


def _all_unicode(plain: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in plain)


def _base64_forms(secret: bytes, offset: int) -> set[str]:
    """The characters that the secret's own bytes fix when `offset` unknown bytes stand before it."""
    padded = bytes(offset) + secret
    whole = padded[: len(padded) - len(padded) % 3]
    standard = base64.b64encode(whole).decode()[offset + bool(offset) :]
    return {standard, standard.replace("+", "-").replace("/", "_")}
