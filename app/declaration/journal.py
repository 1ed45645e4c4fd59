"""What one application of a declaration did: the records of its changes, to be written in their transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.audit import Name, Record, administrative
from app.errors import GatewayError, StartRefused

__all__ = ["Journal", "Trait", "refusing"]

Trait = str | int | list[str] | None


class Journal:
    """The records of the changes that were made.

    Args:
        by: who makes them, as `how:name`.
    """

    def __init__(self, by: str) -> None:
        self.records: list[Record] = []
        self._by = by

    def add(self, name: Name, subject: str, **members: Trait) -> None:
        """A token or a caller was changed."""
        self.records.append(administrative(name, self._by, subject, **members))

    def add_difference(self, name: Name, subject: str, before: Mapping[str, Trait], after: Mapping[str, Trait]) -> None:
        """Some of its members have other values now."""
        changed = [member for member in after if before[member] != after[member]]
        self.add(name, subject, before=[_text(one, before[one]) for one in changed], after=[_text(one, after[one]) for one in changed])

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


def _text(member: str, trait: Trait) -> str:
    return f"{member}={' '.join(trait) if isinstance(trait, list) else trait or ''}"
