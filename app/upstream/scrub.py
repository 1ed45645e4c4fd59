"""Scrubbing: a token's value is taken out of whatever came back, in every form in which it may stand there."""

from __future__ import annotations

import base64
import html
import re
from urllib.parse import unquote

from app.domain import TokenValue

__all__ = ["MASK", "Scrubber", "readable"]

MASK = "•••"
ESCAPED = re.compile(r"\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|\\(.)", re.IGNORECASE | re.DOTALL)
MOST_LAYERS = 3
CONTROLS = dict.fromkeys(set(range(0x20)) - {*map(ord, "\t\n\r")})


def readable(body: bytes) -> str:
    """A body as text, without control characters: in UTF-16, say, a NUL stands between any two letters of the token."""
    return body.decode("utf-8", errors="replace").translate(CONTROLS)


class Scrubber:
    """Finds one token's value, whichever of its characters are escaped and how.

    Plain, URL-encoded, JSON-escaped, as HTML's character references, any mixture of these, and in base64 at its three alignments (RFC 4648,
    both alphabets).
    """

    def __init__(self, value: TokenValue) -> None:
        self._plain = value.reveal()
        self._encoded = {form for offset in range(3) for form in _base64_forms(self._plain.encode(), offset)}

    def scrub(self, text: str) -> tuple[str, int]:
        """The text with every find masked, whatever its letters' case, and how many there were.

        What holds the value under several layers of encoding, or broken into lines, is masked whole.
        """
        if not self._stands_in(_joined(text)):
            return text, 0
        scrubbed, finds = re.subn(self._pattern(), MASK, text, flags=re.IGNORECASE)
        return (MASK, 1) if self._stands_in(_joined(scrubbed)) else (scrubbed, finds)

    def _stands_in(self, text: str) -> bool:
        """Whether the value can be read from the text, by taking off up to three layers of encoding."""
        wanted = [form.lower() for form in (self._plain, *self._encoded)]
        texts = {text}
        for _ in range(MOST_LAYERS + 1):
            if any(form in one.lower() for one in texts for form in wanted):
                return True
            texts = {bare for one in texts for decode in DECODERS if (bare := decode(one)) != one}
        return False

    def _pattern(self) -> str:
        """Each of the value's characters in any of its forms, or one of the base64 forms."""
        mixed = "".join(_any_form_of(character) for character in self._plain)
        return "|".join([*map(re.escape, sorted(self._encoded, key=len, reverse=True)), mixed])


def _joined(text: str) -> str:
    """The text without blanks, which a token's value never holds, and which stand in base64 after every 76 characters (RFC 2045)."""
    return "".join(text.split())


def _any_form_of(character: str) -> str:
    code = ord(character)
    forms = [re.escape(character), f"%{code:02x}", rf"\\u{code:04x}", rf"\\x{code:02x}", rf"&\#0*{code};", rf"&\#x0*{code:x};"]
    named = html.escape(character)
    if named != character:
        forms.append(re.escape(named))
    if not character.isalnum():
        forms.insert(0, rf"\\{re.escape(character)}")
    return f"(?:{'|'.join(forms)})"


def _unescaped(text: str) -> str:
    return ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else found[3], text)


DECODERS = (_unescaped, unquote, html.unescape)


def _base64_forms(secret: bytes, offset: int) -> set[str]:
    """The characters that the secret's own bytes fix when `offset` unknown bytes stand before it."""
    padded = bytes(offset) + secret
    whole = padded[: len(padded) - len(padded) % 3]
    standard = base64.b64encode(whole).decode()[offset + bool(offset) :]
    return {standard, standard.replace("+", "-").replace("/", "_")}
