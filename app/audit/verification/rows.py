"""A stored record that isn't what was expected next, as far as it can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

__all__ = ["LARGEST_PLACE", "StrayRow", "is_place", "stray_row"]

LARGEST_PLACE = (1 << 53) - 1
"""What canonical JSON can hold exactly (RFC 8785): no record has a `seq` or a `number` beyond it."""


@dataclass(frozen=True, slots=True)
class StrayRow:
    """What the row holds, and the place that its body tells; `sound`, if both columns are of the type that they are written in."""

    number: int
    body: bytes
    hash: bytes
    sound: bool
    members: Mapping[str, Any]
    chain: str
    seq: int
    told_number: int

    @property
    def id(self) -> str | None:
        """The record's ID, where it can be read."""
        found = self.members.get("id")
        return found if isinstance(found, str) else None

    @property
    def in_its_place(self) -> bool:
        """Whether it lies where its body says."""
        return self.told_number == self.number

    def follows(self, previous: bytes | None) -> bool:
        """Whether it is what was chained to that hash."""
        return previous is not None and self.chained_to(previous) == self.hash

    def chained_to(self, previous: bytes) -> bytes:
        """The hash that its body has after another."""
        return hashlib.sha256(previous + self.body).digest()


def is_place(value: object) -> TypeGuard[int]:
    """Whether it can be a place in a chain, or among all records."""
    return type(value) is int and 1 <= value <= LARGEST_PLACE


def stray_row(number: int, body: object, stored: object) -> StrayRow | None:
    """Read a row; None where its body isn't a record any more."""
    try:
        members = orjson.loads(body)  # type: ignore[arg-type]
        chain, seq, told = members["chain"], members["seq"], members["number"]
    except (ValueError, TypeError, KeyError):
        return None
    if not (isinstance(chain, str) and is_place(seq) and is_place(told)):
        return None
    sound = type(body) is bytearray and type(stored) is bytes
    return StrayRow(number, _bytes(body), _bytes(stored), sound, members, chain, seq, told)


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()
