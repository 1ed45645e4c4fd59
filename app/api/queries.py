"""Queries of the gateway's own routes: parameters that are named, each once and with a value."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from fastapi import Request

from app.errors import RequestMalformed

__all__ = ["page_limit", "read_query"]


def read_query(request: Request, names: Collection[str]) -> dict[str, str]:
    """The query's parameters.

    Raises:
        RequestMalformed: another one is there than these, or one has no value or more than one.
    """
    try:
        pairs = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="strict")
    except ValueError:
        pairs = [("", "")]
    given = dict(pairs)
    if len(given) != len(pairs) or not given.keys() <= set(names) or not all(given.values()):
        detail = f"the query may have these parameters only, each once and with a value: {', '.join(names)}"
        raise RequestMalformed(detail)
    return given


def page_limit(text: str, most: int) -> int:
    """How many a page shall have, at most.

    Raises:
        RequestMalformed: it is no number from 1 to `most`.
    """
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else 0
    if not 1 <= limit <= most:
        detail = f"limit: a number from 1 to {most}"
        raise RequestMalformed(detail)
    return limit
