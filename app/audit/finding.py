"""Finding records by their indexes, with bounded work, whatever is asked for together.

Each index holds the numbers of its records in order. Where several must agree, each leaps to what the one before it has next: the work
is that of the rarest, and the records themselves aren't read before they are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from app.audit.storing import Execute, last_number
from app.audit.wanted import Wanted

__all__ = ["Selected", "Span", "Stored", "beginning", "numbers_of", "select", "stored", "walks_of"]

MOST_LOOKED_AT = 10_000
NEAR_AN_END = 200_000
CLOCKS_DIFFER = timedelta(seconds=2)
UNREADABLE = "this isn't what was written here; `audit verify` tells more"
INDEXED = ("request_id", "by", "caller", "token", "code", "name")
BEFORE_ALL_IDS, BEYOND_ALL_IDS = "", "g"


class Stored(NamedTuple):
    """A record as it is stored: its place among all, its canonical JSON, and its hash, all as they lie there, damaged or edited even."""

    number: int
    body: bytes
    hash: bytes

    def members(self) -> dict[str, Any]:
        """What it holds; where that can't be read, its number, and that it can't."""
        found = _object(self.body)
        return {"number": self.number, "unreadable": UNREADABLE} if found is None else found

    def shown(self) -> dict[str, Any]:
        """What it holds, and its hash in hex beside."""
        return {**self.members(), "hash": self.hash.hex()}

    def json(self) -> bytes:
        """The same as JSON: the stored bytes, with the hash as the last member."""
        members = _object(self.body)
        if not members or "hash" in members:
            return orjson.dumps(self.shown())
        return b'%b,"hash":"%b"}' % (self.body.rstrip()[:-1], self.hash.hex().encode())


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that it is, if it is one, and one that can be written again: too deep a nesting can't."""
    try:
        found = orjson.loads(body)
        orjson.dumps(found)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return found if isinstance(found, dict) else None


class Span(NamedTuple):
    """The numbers from `low` to `high`, both included."""

    low: int
    high: int

    def beyond(self, number: int, *, newest_first: bool) -> Span | None:
        """What is left of it, seen from a number on the way; None where nothing is."""
        left = Span(self.low, number - 1) if newest_first else Span(number + 1, self.high)
        return left if left.low <= left.high else None


@dataclass(frozen=True, slots=True)
class Walk:
    """A way along the numbers of the records that have something, in order."""

    newest_first: str
    oldest_first: str
    value: tuple[str, ...] = ()

    def take(self, execute: Execute, span: Span, most: int, *, newest_first: bool) -> list[int]:
        """The next numbers."""
        query = self.newest_first if newest_first else self.oldest_first
        return [number for (number,) in execute(query, (*self.value, *span, most)).fetchall()]


@dataclass(frozen=True, slots=True)
class Selected:
    """What was found; `rest` is what hasn't been looked at yet, None where nothing is left."""

    records: list[Stored]
    rest: Span | None


@dataclass(frozen=True, slots=True)
class _Found:
    numbers: list[int]
    rest: Span | None
    looked: int


def walks_of(wanted: Wanted) -> list[Walk]:
    """The indexes that lead to what is wanted; those first that tend to hold least. Without any it is the table itself."""
    walks = [_walk("audit_records", name, value) for name in INDEXED if (value := getattr(wanted, name)) is not None]
    if wanted.order is not None:
        walks.insert(0, _walk("audit_ids", "value", wanted.order))
    return walks or [_walk("audit_records", None, None)]


def select(execute: Execute, wanted: Wanted, span: Span, most: int, *, newest_first: bool) -> Selected:
    """The next records of a span that are wanted; at most `most`, and fewer where 10,000 were looked at.

    Args:
        execute: reads the database.
        wanted: which.
        span: where.
        most: how many.
        newest_first: whether the highest number comes first; otherwise the lowest.
    """
    walks, records, looked = walks_of(wanted), list[Stored](), 0
    rest: Span | None = span
    while rest and len(records) < most and looked < MOST_LOOKED_AT:
        found = _find(execute, walks, rest, most, newest_first=newest_first)
        looked, rest = looked + found.looked, found.rest
        records += [one for one in stored(execute, found.numbers) if _in_time(one, wanted)]
    if len(records) > most:
        rest = span.beyond(records[most - 1].number, newest_first=newest_first)
    return Selected(records[:most], rest)


def stored(execute: Execute, numbers: Sequence[int]) -> Iterator[Stored]:
    """The records of these numbers, in their order."""
    # As bytes: nothing need be UTF-8 in a file that somebody edited.
    query = "SELECT number, CAST(body AS BLOB), CAST(hash AS BLOB) FROM audit_records WHERE number = ?"
    for number in numbers:
        found = execute(query, (number,)).fetchone()
        if found:
            yield Stored(*found)


def numbers_of(execute: Execute, column: str, value: str, most: int) -> list[int]:
    """The newest records that have this in an indexed column, or tell of this ID where it is `value`; newest first."""
    walk = _walk("audit_ids" if column == "value" else "audit_records", column, value)
    return walk.take(execute, Span(0, last_number(execute)), most, newest_first=True)


def beginning(execute: Execute, wanted: Wanted) -> Span | None:
    """Where the wanted records are, all numbers if no time is named; None where there are none.

    IDs are in the order of time and numbers in that of writing, which differ where a record had to wait to be written. So the 200,000
    records of the period that are next to its ends decide.
    """
    if wanted.since is None and wanted.until is None:
        last = last_number(execute)
        return Span(1, last) if last else None
    ids = (_id_at(wanted.since, -CLOCKS_DIFFER) or BEFORE_ALL_IDS, _id_at(wanted.until, CLOCKS_DIFFER) or BEYOND_ALL_IDS)
    low, high = (execute(query, (*ids, NEAR_AN_END)).fetchone()[0] for query in (FIRST_BY_TIME, LAST_BY_TIME))
    return None if low is None else Span(low, high)


FIRST_BY_TIME = "SELECT min(number) FROM (SELECT number FROM audit_records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)"
LAST_BY_TIME = "SELECT max(number) FROM (SELECT number FROM audit_records WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?)"


def _walk(table: str, column: str | None, value: str | None) -> Walk:
    holds = f'"{column}" = ? AND ' if column else ""
    query = f"SELECT number FROM {table} WHERE {holds}number >= ? AND number <= ? ORDER BY number"  # noqa: S608 - names of ours
    return Walk(f"{query} DESC LIMIT ?", f"{query} LIMIT ?", () if value is None else (value,))


def _find(execute: Execute, walks: Sequence[Walk], span: Span, most: int, *, newest_first: bool) -> _Found:
    """The next numbers that all walks pass."""
    if len(walks) > 1:
        return _leap(execute, walks, span, most, newest_first=newest_first)
    numbers = walks[0].take(execute, span, most, newest_first=newest_first)
    rest = span.beyond(numbers[-1], newest_first=newest_first) if len(numbers) == most else None
    return _Found(numbers, rest, len(numbers))


def _leap(execute: Execute, walks: Sequence[Walk], span: Span, most: int, *, newest_first: bool) -> _Found:
    numbers, looked = list[int](), 0
    rest: Span | None = span
    while rest and len(numbers) < most and looked < MOST_LOOKED_AT:
        looked += 1
        passed = _passed(execute, walks, rest, newest_first=newest_first)
        if passed is None:
            return _Found(numbers, None, looked)
        first, last = passed
        if first == last:
            numbers.append(first)
            rest = rest.beyond(first, newest_first=newest_first)
        else:
            rest = _from(rest, last, newest_first=newest_first)
    return _Found(numbers, rest, looked)


def _passed(execute: Execute, walks: Sequence[Walk], span: Span, *, newest_first: bool) -> tuple[int, int] | None:
    """Where the first walk and, one after the other, all others have come to: the same number is what all pass."""
    places = []
    for walk in walks:
        numbers = walk.take(execute, span, 1, newest_first=newest_first)
        if not numbers:
            return None
        places.append(numbers[0])
        span = _from(span, numbers[0], newest_first=newest_first)
    return places[0], places[-1]


def _from(span: Span, number: int, *, newest_first: bool) -> Span:
    return Span(span.low, number) if newest_first else Span(number, span.high)


def _in_time(record: Stored, wanted: Wanted) -> bool:
    """Whether it was made in the time that is wanted; yes where that can't be told: in doubt a record is shown."""
    if wanted.since is None and wanted.until is None:
        return True
    at = record.members().get("at")
    return not isinstance(at, str) or wanted.in_time(at)


def _id_at(at: str | None, distance: timedelta) -> str | None:
    """What every UUIDv7 of that time or a later one is greater than."""
    if at is None:
        return None
    milliseconds = max(0, round(datetime.fromisoformat(at).timestamp() * 1_000) + round(distance.total_seconds() * 1_000))
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}"
