"""Which entries of the index of IDs aren't what the records tell: both are gone through in order of number, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import orjson

from app.audit.verification.filing import NO_TEXT, filed_ids
from app.storage.scan import RawRow, legible

__all__ = ["Misfiled", "misfiled"]


class Misfiled(NamedTuple):
    """An entry that the index lacks, or has though no record tells of it; `there`, if a record of that number is."""

    number: int | None
    value: str
    missing: bool
    there: bool


def misfiled(records: Iterable[Sequence[RawRow]], entries: Iterable[Sequence[RawRow]]) -> Iterator[Misfiled]:
    """The entries that are missing or wrong; none of records whose bodies can't be read.

    Args:
        records: in batches, in order of number.
        entries: the same.

    Raises:
        Damaged
    """
    filed = _Entries(entries)
    for number, body, _ in chain.from_iterable(records):
        yield from (Misfiled(extra, value, missing=False, there=False) for extra, value in filed.before(number))
        told = _told(body)
        for value in filed.at(number):
            if told and value in told:
                told.remove(value)
            elif told is not None:
                yield Misfiled(number, legible(value), missing=False, there=True)
        yield from (Misfiled(number, legible(value), missing=True, there=True) for value in sorted(told or ()))
    yield from (Misfiled(extra, value, missing=False, there=False) for extra, value in filed.left())


class _Entries:
    """Entries in order, looked at before they are taken."""

    def __init__(self, batches: Iterable[Sequence[RawRow]]) -> None:
        self._rows = chain.from_iterable(batches)
        self._next = next(self._rows, None)

    def before(self, number: int) -> Iterator[tuple[int | None, str]]:
        """Take those of smaller numbers, or of none."""
        while self._next and (self._next[0] is None or self._next[0] < number):
            yield self._taken()

    def at(self, number: int) -> Iterator[bytes]:
        """Take the values of that number, marked where they aren't text."""
        while self._next and self._next[0] == number:
            _, value, is_text = self._next
            self._next = next(self._rows, None)
            yield value if is_text else NO_TEXT + value

    def left(self) -> Iterator[tuple[int | None, str]]:
        """Take the rest."""
        while self._next:
            yield self._taken()

    def _taken(self) -> tuple[int | None, str]:
        assert self._next  # noqa: S101 - looked at before
        number, value, _ = self._next
        self._next = next(self._rows, None)
        return number, legible(value)


def _told(body: object) -> set[bytes] | None:
    """What a record is filed by; None where it can't be read."""
    try:
        members = orjson.loads(body)  # type: ignore[arg-type]
    except ValueError:
        return None
    return {value.encode() for value in filed_ids(members)} if isinstance(members, dict) else None
