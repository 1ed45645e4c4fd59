"""A request's ID is its caller's own, but for secrets."""

from __future__ import annotations

import base64
import json

import pytest

from app.api.request_ids import request_id_of

VALUE = "a-simulated-token-value-0001"
KEY = "fgk_29b50679cf17_WoGuiS0rBJAMTHcdhv8c2CkdN2jyL8crTjUlXAiyasA"
SECRET = KEY[len("fgk_") + 13 :]
OTHER = "another-made-up-token-value"


def is_value(text: str) -> bool:
    """Knows one token."""
    return text == VALUE


def id_of(given: str, **headers: str) -> str:
    """The ID of a request with these headers."""
    others = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return request_id_of([*others, (b"x-request-id", given.encode())], is_value)


def part(members: dict[str, str]) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(members, separators=(",", ":")).encode()).decode().rstrip("=")


JWT = f"{part({'alg': 'none'})}.{part({'sub': 'x'})}."
OWN = ["7", "0198c1a2-7c41-7c35-9d3a-0e6f6f0d9a11", "order-service/2027-01-31#4711", "x" * 128, "eyJhbGciOi", "keyJob.1", "fg_1"]
SECRETS = [VALUE, KEY, f"id-{KEY}", KEY[:20], KEY.upper(), JWT, f"id:{JWT}", f"{part({'alg': 'EdDSA', 'typ': 'JWT'})}.{part({'sub': 'x'})}"]


@pytest.mark.parametrize("given", OWN)
def test_a_callers_own_id_is_kept(given: str) -> None:
    """Whatever it looks like, also beside a credential."""
    assert id_of(given) == given
    assert id_of(given, authorization=f"Bearer {KEY}") == given


@pytest.mark.parametrize("given", SECRETS)
def test_what_is_secret_by_itself_is_no_id(given: str) -> None:
    """A token's value, and what has the form of a key, a JWT or a ticket, whole or in part, gets another ID in its place."""
    made = id_of(given)

    assert len(made) == 36
    assert given.lower() not in made


@pytest.mark.parametrize(
    ("given", "headers"),
    [
        (OTHER, {"x_api_token": OTHER}),
        (OTHER, {"authorization": f"Bearer {OTHER}"}),
        (OTHER, {"authorization": OTHER}),
        (f"for-{OTHER}-1", {"x_api_token": OTHER}),
        (SECRET, {"authorization": f"bearer  {KEY}"}),
        (SECRET[5:25], {"x_api_token": KEY}),
    ],
)
def test_a_credential_that_came_with_it_is_no_id(given: str, headers: dict[str, str]) -> None:
    """Right or wrong, whole, with something around it, or a piece of it."""
    assert id_of(given) == given
    assert id_of(given, **headers) != given
