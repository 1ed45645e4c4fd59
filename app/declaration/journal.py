"""What one application of a declaration did: the records of its changes, to be written in their transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.audit import Record
from app.changes import Changes
from app.errors import GatewayError, StartRefused

__all__ = ["Journal", "refusing"]


class Journal:
    """The records of the changes that were made.

    Args:
        by: who makes them, as `how:name`.
    """

    def __init__(self, by: str) -> None:
        self.records: list[Record] = []
        self.changes = Changes(by)

    def add(self, record: Record) -> None:
        """A token or a caller was changed."""
        self.records.append(record)

    def counts(self) -> dict[str, int]:
        """How many changes there were of each sort."""
        return dict(Counter(record.name.value for record in self.records))


@contextmanager
def refusing(place: str) -> Iterator[None]:
    """Put a refused change down to the place that asks for it.

    Raises:
        StartRefused: in one line, the place and why.
    """
    try:
        yield
    except GatewayError as error:
        message = f"GATEWAY_CONFIG_FILE: {place}: {error.detail}"
        raise StartRefused(message) from error
