"""A request's ID: its caller's own, unless that is a secret or has the form of one, since it is logged, recorded and said back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from app.domain import new_id

__all__ = ["request_id_of"]

LONGEST = 128
VISIBLE = frozenset(range(0x21, 0x7F))
SEEMS_SECRET = re.compile(rb"fgk_|eyJ[\w-]{16,}\.", re.IGNORECASE)
"""How a gateway key begins, and a JWT's header, as of a ticket: the shortest, `{"alg":"none"}`, has 19 characters in base64."""

CREDENTIALS = (b"authorization", b"x-api-token")
SHORTEST_SECRET = 8
SHORTEST_PIECE = 16

Header = tuple[bytes, bytes]


def request_id_of(headers: Iterable[Header], is_value: Callable[[str], bool]) -> str:
    """The ID that the header `X-Request-ID` gives, if it is 1 to 128 visible ASCII characters and no secret, else a new one.

    Args:
        headers: the request's, their names in lower case.
        is_value: whether a text is a token's value.
    """
    headers = list(headers)
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) != 1 or not 1 <= len(given[0]) <= LONGEST or not VISIBLE.issuperset(given[0]):
        return new_id()
    text = given[0].decode("ascii")
    return new_id() if SEEMS_SECRET.search(given[0]) or _is_presented(given[0], headers) or is_value(text) else text


def _is_presented(given: bytes, headers: Iterable[Header]) -> bool:
    """Whether a credential that came with the request, right or wrong, stands in there, or a large piece of it is this."""
    words = (word for name, value in headers if name in CREDENTIALS for word in value.split())
    return any(len(word) >= SHORTEST_SECRET and (word in given or (len(given) >= SHORTEST_PIECE and given in word)) for word in words)
