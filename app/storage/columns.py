"""Columns' types, by database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.types import TypeEngine

__all__ = ["NUMBER", "letters"]

NUMBER: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
"""A record's place: 64 bits."""


def letters(length: int | None = None) -> TypeEngine[Any]:
    """A text that is compared and ordered by its letters' codes, on PostgreSQL too, whatever the language of the database there.

    Args:
        length: says how long it may be; nothing cuts or refuses what is longer.
    """
    return (String(length) if length else Text()).with_variant(Text(collation="C"), "postgresql")
