"""Finding a secret in bytes, in whatever form it stands there. It shares nothing with the gateway's own scrubbing, which it judges."""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import quopri
import re
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

__all__ = ["Searcher"]

PIECE, STEP = 12, 4
"""A piece of a secret is a find too, though the rest was cut off: 15 characters in a row are always one."""
MOST_LAYERS = 2
BEGINNING = 5
COMPRESSED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
JSON_ESCAPE = re.compile(rb"\\u00([0-9a-f]{2})|\\x([0-9a-f]{2})|\\([^ux])", re.IGNORECASE)


class Searcher:
    """Looks for some secrets."""

    def __init__(self, *secrets: str) -> None:
        self._needles = {needle.lower(): form for secret in secrets for form, needle in _forms(secret.encode())}

    def finds(self, hay: bytes) -> list[str]:
        """How the secrets stand in there: the form, and what was taken off to see it; nothing where they don't."""
        views = {hay: ""}
        found = []
        for _ in range(MOST_LAYERS + 1):
            found += [f"{form}{how}" for view, how in views.items() for form in self._forms_in(view.lower())]
            views = {bare: f"{how}, {name}" for view, how in views.items() for name, bare in _unwrapped(view) if bare != view}
        return sorted(set(found))

    def _forms_in(self, view: bytes) -> list[str]:
        return [form for needle, form in self._needles.items() if _stands_in(view, needle)]


def _stands_in(view: bytes, needle: bytes) -> bool:
    """Looked for by its beginning first: Python 3.11.2's search for a long needle in a long view was seen not to end."""
    return needle[:BEGINNING] in view and re.search(re.escape(needle), view) is not None


def _forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """The secret's forms that no view takes off."""
    for start in range(0, len(secret) - PIECE + 1, STEP):
        yield "plain", secret[start : start + PIECE]
        yield "reversed", secret[start : start + PIECE][::-1]
    yield "hexadecimal", binascii.hexlify(secret)
    yield "base32", base64.b32encode(secret).rstrip(b"=")[:-1]
    for offset in range(3):
        # What the secret's own bytes fix, whichever bytes stand around it.
        whole = base64.b64encode(b"\0" * offset + secret + b"\0" * 3)
        first, last = -(-offset * 8 // 6), (offset + len(secret)) * 8 // 6
        yield f"base64 at {offset}", whole[first:last]
        yield f"base64url at {offset}", whole[first:last].translate(bytes.maketrans(b"+/", b"-_"))
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, secret, usedforsecurity=False).digest()
        yield name, digest
        yield f"{name} in hexadecimal", binascii.hexlify(digest)


def _unwrapped(view: bytes) -> Iterator[tuple[str, bytes]]:
    """The bytes with one layer of encoding taken off."""
    for name, decode in DECODERS.items():
        yield name, decode(view)
    for match in COMPRESSED.finditer(view):
        unpacked = _decompressed(view[match.start() :])
        if unpacked:
            yield "compressed", unpacked


def _decompressed(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(packed, 1_000_000)
    except zlib.error:
        return b""


def _from_json(view: bytes) -> bytes:
    return JSON_ESCAPE.sub(lambda found: bytes([int(found[1] or found[2], 16)]) if found[1] or found[2] else found[3], view)


def _from_html(view: bytes) -> bytes:
    return html.unescape(view.decode("latin-1")).encode("latin-1", errors="replace")


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "URL-encoded": unquote_to_bytes,
    "as a form": lambda view: unquote_to_bytes(view.replace(b"+", b" ")),
    "escaped": _from_json,
    "in HTML": _from_html,
    "quoted-printable": lambda view: quopri.decodestring(view) if b"=" in view else view,
    "in wide characters": lambda view: view.replace(b"\0", b""),
    "in lines": lambda view: b"".join(view.replace(b"\\n", b"\n").replace(b"\\r", b"\r").split()),
}
