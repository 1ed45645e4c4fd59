"""Gateway keys: making, reading, and what is kept of them."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.callers import GatewayKey, make_key
from app.callers.keys import parse_key

SECRET = "S" * 43


def test_a_made_key_is_read_back() -> None:
    """A new key's text has the published form and reads as that very key."""
    key = make_key()

    assert parse_key(key.reveal()) == key
    assert key.reveal() == f"fgk_{key.id}_{key.secret}"


def test_every_key_is_another() -> None:
    """Neither IDs nor secrets repeat."""
    keys = [make_key() for _ in range(100)]

    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == 100


def test_a_hash_is_kept_of_the_secret() -> None:
    """What is stored is the secret's SHA-256."""
    key = GatewayKey("0123456789ab", SECRET)

    assert key.sha256 == hashlib.sha256(SECRET.encode()).digest()


def test_a_logged_key_doesnt_show_its_secret() -> None:
    """Every rendering of a key but `reveal` shows its ID alone."""
    key = GatewayKey("0123456789ab", SECRET)

    assert SECRET not in f"{key} {key!r} {[key]}"
    assert "0123456789ab" in repr(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fgk_",
        f"fgk_0123456789ab{SECRET}",
        f"fgk_0123456789a_{SECRET}",
        f"fgk_0123456789abc_{SECRET}",
        f"fgk_0123456789AB_{SECRET}",
        f"FGK_0123456789ab_{SECRET}",
        f"fgk_0123456789ab_{SECRET[1:]}",
        f"fgk_0123456789ab_{SECRET}S",
        f"fgk_0123456789ab_{SECRET[1:]}+",
        f"fgk_0123456789ab_{SECRET[1:]}é",
        f"fgk_\u0660123456789ab_{SECRET}",
        f" fgk_0123456789ab_{SECRET}",
        f"fgk_0123456789ab_{SECRET}\n",
    ],
)
def test_what_has_another_form_is_no_key(text: str) -> None:
    """A key is `fgk_`, twelve hexadecimal digits, and 43 characters of base64url; nothing before, nothing after."""
    assert parse_key(text) is None


@settings(deadline=None)
@given(st.binary(min_size=6, max_size=6), st.binary(min_size=32, max_size=32))
def test_a_keys_text_reads_as_that_key(name: bytes, secret: bytes) -> None:
    """Any ID and secret that can be made are read back from the key's text, underscores and dashes in the secret too."""
    made = GatewayKey(name.hex(), base64.urlsafe_b64encode(secret).decode().rstrip("="))

    assert parse_key(made.reveal()) == made


@settings(deadline=None)
@given(st.text(max_size=80) | st.text("fgk_0123456789abcdef-", min_size=55, max_size=65))
def test_any_text_is_a_key_or_none(text: str) -> None:
    """No text makes reading fail, and only a key's own text reads as a key."""
    key = parse_key(text)

    assert key is None or key.reveal() == text
