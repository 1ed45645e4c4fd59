"""What a JWT says of itself in its JOSE header (RFC 7515), of which nothing is believed yet. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import orjson

from app.callers.presented import Jwt

__all__ = ["decoded", "header_of"]


def header_of(jwt: Jwt) -> Mapping[str, object]:
    """The header; empty where there is none that can be read. Nothing else of the JWT is looked at."""
    segment = jwt.text.partition(".")[0]
    try:
        found = orjson.loads(decoded(segment))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def decoded(segment: str) -> bytes:
    """What a segment holds (RFC 7515, section 2: base64url without padding).

    Raises:
        ValueError: it isn't base64url.
    """
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
