"""Whether the index of IDs agrees with the records: two sums that must be equal, whatever the order and the number of entries."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from app.storage.scan import RawRow
from app.storage.tables import FILED_LISTS, FILED_MEMBERS

__all__ = ["NO_TEXT", "Sum", "filed_ids"]

SUM_BITS = (1 << 64) - 1
NO_TEXT = b"\xff"
"""Before an entry's value that isn't text: no text in UTF-8 begins with it."""


def filed_ids(members: Mapping[str, Any]) -> set[str]:
    """The IDs by which a record is filed: those that the trigger of its table reads out of it."""
    found: set[str] = set()
    for name in FILED_LISTS:
        if ids := members.get(name):
            found.update(map(_filed, ids) if isinstance(ids, list) else [_filed(ids)])
    member = FILED_MEMBERS.get(str(members.get("name")))
    if member and member in members:
        found.add(_filed(members[member]))
    return found


def _filed(value: object) -> str:
    """As it is filed; nothing that is filed where it isn't one value: no record has that."""
    return str(value) if isinstance(value, str | int | float) else "\0"


class Sum:
    """A sum over entries. Who doesn't know this run's salt can't choose entries that add up to the sum of others."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self.value = 0

    @staticmethod
    def pair() -> tuple[Sum, Sum]:
        """Two that can be compared."""
        salt = secrets.token_bytes(16)
        return Sum(salt), Sum(salt)

    def add_record(self, number: int, members: Mapping[str, Any]) -> None:
        """Add what a record is filed by."""
        for value in filed_ids(members):
            self._add(number, value.encode())

    def add_entries(self, batch: Sequence[RawRow]) -> None:
        """Add entries as they are stored."""
        for number, value, is_text in batch:
            self._add(number, value if is_text else NO_TEXT + value)

    def _add(self, number: int | None, value: bytes) -> None:
        # Python's own hash of bytes is keyed (SipHash), by a key of this process.
        self.value = (self.value + hash((self._salt + value, number))) & SUM_BITS
