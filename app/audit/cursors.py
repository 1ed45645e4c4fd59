"""Cursors: where a list goes on. They mean something to the gateway only, and only with what was asked for."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import asdict

from app.audit.canonical import canonical
from app.audit.finding import Span
from app.audit.wanted import Wanted
from app.errors import ParameterInvalid

__all__ = ["cursor_of", "span_of"]

FORM = struct.Struct(">qq8s")


def cursor_of(rest: Span, wanted: Wanted) -> str:
    """The cursor for what is left of a list."""
    return base64.urlsafe_b64encode(FORM.pack(*rest, _check(rest, wanted))).decode()


def span_of(cursor: str, wanted: Wanted) -> Span:
    """What is left of a list.

    Raises:
        ParameterInvalid: no list gave this cursor, or one of other records did.
    """
    try:
        low, high, check = FORM.unpack(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (ValueError, struct.error):
        raise _wrong() from None
    span = Span(low, high)
    if check != _check(span, wanted):
        raise _wrong()
    return span


def _check(span: Span, wanted: Wanted) -> bytes:
    """What keeps a cursor from being taken for another list's. It is no secret: whoever may list may list everything."""
    return hashlib.sha256(canonical({**asdict(wanted), "low": span.low, "high": span.high})).digest()[:8]


def _wrong() -> ParameterInvalid:
    return ParameterInvalid("cursor: as the list's page before this one gave it, with the same filters")
