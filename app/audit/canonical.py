"""Canonical JSON (RFC 8785): one form for one content, so that a hash or a signature of it can be made again."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

__all__ = ["canonical"]


def canonical(members: Mapping[str, object]) -> bytes:
    """The members as UTF-8, keys sorted, without blanks.

    That is RFC 8785's form for what records hold: ASCII keys, strings, booleans, lists, whole numbers below 2^53 and milliseconds to three
    decimals.

    Raises:
        TypeError: a string isn't Unicode (it holds half of a surrogate pair), or a value isn't JSON's.
    """
    return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)
