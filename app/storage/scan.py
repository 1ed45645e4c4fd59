"""Reading a database as it lies there, to find out whether it was altered: one snapshot, and nothing that the database computes.

Each database has its own module for that: `embedded_scan`, `postgresql_scan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from sys import getsizeof
from typing import Any, Protocol

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "LARGEST_VALUE", "STORED", "Damaged", "RawRow", "Scan", "batched", "legible"]

BATCH_ROWS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
LARGEST_VALUE = 4 * 1024 * 1024
"""Many times the largest that the gateway stores: a record of a declared caller with thousands of grants has some hundred KiB."""

STORED = {
    "alembic_version": {"version_num"},
    "audit_chains": {"id", "closed_at"},
    "audit_checkpoints": {"body", "signature"},
    "audit_ids": {"value", "number"},
    "audit_records": {"number", "body", "hash"},
    "audit_tombstones": {"body", "signature"},
    "sealed_keys": {"name", "key_id", "nonce", "sealed"},
}
"""What is read, of which tables: it must lie there, and not be computed by what somebody else put in its place."""

RawRow = tuple[Any, Any, Any]
"""A row's number, and two columns: a `bytearray` where the database holds text, else what it holds."""


class Damaged(Exception):
    """The database can't be read on: what lies there isn't what it wrote, or isn't what the gateway made."""


class Scan(Protocol):
    """Reads one snapshot. Every method raises `Damaged`; those that give batches do so after the last that can be read."""

    def records(self) -> Iterator[Sequence[RawRow]]:
        """The records' `number`, `body` and `hash`, in order of number, in batches.

        Where these are larger than any that the gateway stores, or the number isn't what the row is found by, there is None in their place.
        """

    def seals(self, table: str) -> Iterator[Sequence[RawRow]]:
        """A table's row, `body` and `signature`, in the order in which they were stored, in batches."""

    def filed_ids(self, *, in_order: bool = False) -> Iterator[Sequence[RawRow]]:
        """The entries of `audit_ids` in batches: number (None where it is none), value in UTF-8, and whether it is text.

        Args:
            in_order: by number, those without one first.
        """

    def last_number(self) -> int:
        """The highest number of a record."""

    def closed_chains(self) -> set[str]:
        """The chains that their processes ended."""

    def schema(self) -> str | None:
        """The newest migration that the database has; None where that can't be read."""

    def one(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - a row as the driver gives it
        """The first row that a query gives, or None."""


def batched(rows: Iterable[RawRow]) -> Iterator[Sequence[RawRow]]:
    """So many rows at a time, or bytes."""
    batch: list[RawRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += getsizeof(row[1])
        if size > BATCH_BYTES or len(batch) == BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def legible(value: object) -> str:
    """A raw value as text."""
    return bytes(value).decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
