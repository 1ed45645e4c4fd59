"""The searcher finds what it should: a canary that is blind shows nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import quopri
import zlib
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.canary.searching import Searcher

SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=64)
PLAIN = 'Ka/0123456789+na="abcdef&<rie'
FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "in capitals": lambda secret: secret.upper().encode(),
    "cut": lambda secret: secret[2:17].encode(),
    "URL-encoded": lambda secret: quote(secret, safe="").encode(),
    "URL-encoded, all": lambda secret: "".join(f"%{ord(one):02X}" for one in secret).encode(),
    "URL-encoded, slash left": lambda secret: quote(secret).encode(),
    "as a form": lambda secret: quote_plus(secret).encode(),
    "URL-encoded twice": lambda secret: quote(quote(secret, safe=""), safe="").encode(),
    "JSON": lambda secret: json.dumps(secret).encode(),
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)).encode(),
    "JSON, all escaped": lambda secret: "".join(f"\\u{ord(one):04x}" for one in secret).encode(),
    "repr": lambda secret: repr(secret.encode()).encode(),
    "HTML": lambda secret: html.escape(secret).encode(),
    "HTML, by number": lambda secret: "".join(f"&#{ord(one)};" for one in secret).encode(),
    "quoted-printable": lambda secret: quopri.encodestring(secret.encode()),
    "hexadecimal": lambda secret: secret.encode().hex().encode(),
    "reversed": lambda secret: secret[::-1].encode(),
    "base32": lambda secret: base64.b32encode(secret.encode()),
    "UTF-16": lambda secret: secret.encode("utf-16"),
    "in lines": lambda secret: "\r\n ".join(secret[start : start + 7] for start in range(0, len(secret), 7)).encode(),
    "base64 in lines": lambda secret: base64.encodebytes(b"x" * 50 + secret.encode() + b"y" * 50),
    "gzip": lambda secret: b"before" + gzip.compress(secret.encode()) + b"after",
    "zlib": lambda secret: b"before" + zlib.compress(secret.encode()),
    "a hash": lambda secret: hashlib.sha256(secret.encode()).hexdigest().encode(),
    "a raw hash": lambda secret: hashlib.md5(secret.encode(), usedforsecurity=False).digest(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(form: str) -> None:
    """In the midst of other bytes."""
    hay = b"\xff\0 before % \\ & = " + FORMS[form](PLAIN) + b' after" \xfe'

    assert Searcher("another-secret-00001", PLAIN).finds(hay)


@given(secret=SECRETS, before=st.binary(max_size=8), after=st.binary(max_size=8), url_safe=st.booleans())
def test_base64_is_found_at_every_alignment(secret: str, before: bytes, after: bytes, url_safe: bool) -> None:  # noqa: FBT001 - a drawn value
    """Whatever stands around the secret, in either alphabet."""
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode

    assert Searcher(secret).finds(encode(before + secret.encode() + after))


@given(secret=SECRETS, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_plain_secret_is_found_among_any_bytes(secret: str, before: bytes, after: bytes) -> None:
    """No bytes around it hide it."""
    assert Searcher(secret).finds(before + secret.encode() + after)


def test_other_bytes_hold_nothing() -> None:
    """What isn't there isn't found."""
    assert Searcher(PLAIN).finds(b"token: \xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2, " + bytes(range(256)) * 100) == []
