"""Scrubbing finds a token in every form in which an upstream may say it back."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import TokenValue
from app.upstream.scrub import MASK, Scrubber

VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=64)
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "URL": lambda value: quote(value, safe=""),
    "URL, small letters": lambda value: quote(value, safe="").lower() if "%" in quote(value, safe="") else value,
    "form": quote_plus,
    "JSON": lambda value: json.dumps(value)[1:-1],
    "URL, slash left": quote,
    "PHP's JSON": lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
    "Gson's JSON": lambda value: json.dumps(value)[1:-1].replace("=", "\\u003d").replace("&", "\\u0026"),
    "HTML": html.escape,
    "HTML, by number": lambda value: "".join(f"&#{ord(one)};" for one in value),
    "HTML, by hexadecimal number": lambda value: "".join(f"&#x{ord(one):X};" for one in value),
    "every second character": lambda value: "".join(f"%{ord(one):02x}" if place % 2 else one for place, one in enumerate(value)),
    "URL within JSON": lambda value: json.dumps(quote(value, safe=""))[1:-1].replace("%", "\\u0025"),
    "JSON, all escaped": lambda value: "".join(f"\\u{ord(one):04x}" for one in value),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(value=VALUES, before=st.text(max_size=20), after=st.text(max_size=20))
def test_every_text_form_is_masked(encoding: str, value: str, before: str, after: str) -> None:
    """Plain, URL-encoded, form-encoded and JSON-escaped forms are found wherever they stand."""
    said = ENCODINGS[encoding](value)
    scrubbed, finds = Scrubber(TokenValue(value)).scrub(f"{before}{said}{after}")

    assert finds >= 1
    assert MASK in scrubbed
    assert said not in scrubbed


@given(value=VALUES, before=st.binary(max_size=8), after=st.binary(max_size=8), url_safe=st.booleans())
def test_base64_is_masked_at_every_alignment(value: str, before: bytes, after: bytes, url_safe: bool) -> None:  # noqa: FBT001 - a drawn value
    """Base64 of a text that holds the token gives nothing of it away but, at the edges, what single characters say."""
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    said = encode(before + value.encode() + after).decode()
    scrubbed, finds = Scrubber(TokenValue(value)).scrub(said)

    assert finds >= 1
    assert len(said) - len(scrubbed) + len(MASK) >= len(value) * 4 / 3 - 7


@given(value=VALUES, before=st.binary(max_size=80))
def test_base64_in_lines_is_masked(value: str, before: bytes) -> None:
    """As mail has it, in lines of 76 characters, one of which may end within the token."""
    said = base64.encodebytes(before + value.encode() + b"after").decode()
    scrubbed, finds = Scrubber(TokenValue(value)).scrub(said)

    assert finds >= 1
    assert base64.b64encode(value.encode())[4:-4].decode() not in "".join(scrubbed.split())


@given(value=VALUES, width=st.integers(1, 15))
def test_a_value_in_lines_is_masked(value: str, width: int) -> None:
    """However it is broken, a value holds no blanks itself."""
    said = "\r\n ".join(value[start : start + width] for start in range(0, len(value), width))

    assert Scrubber(TokenValue(value)).scrub(f"said {said} twice") == (MASK, 1)


@given(value=VALUES, text=st.text(max_size=200))
def test_other_text_is_left_alone(value: str, text: str) -> None:
    """What doesn't hold the token comes out as it went in."""
    scrubbed, finds = Scrubber(TokenValue(value)).scrub(text)

    assert (finds > 0) == (scrubbed != text)
