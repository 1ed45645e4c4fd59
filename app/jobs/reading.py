"""Lists of IDs, read from files and from JSON piece by piece. Pure. Nothing of what they hold is said back: it may be a secret."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO

from app.catalogue import LARGEST_ID, read_id
from app.errors import ParameterInvalid, RequestMalformed

__all__ = ["MOST_IDS", "ids_of_csv", "ids_of_list", "ids_of_text"]

MOST_IDS = 100_000
"""The IDs that one batch may have, those that come twice counted twice."""
WRONG = "the list takes positive 64-bit integers in plain decimal digits; {} holds something else. Nothing was taken in"


def ids_of_text(text: bytes) -> Iterator[int]:
    """One ID a line; blank lines are passed over.

    Raises:
        RequestMalformed: a line isn't UTF-8.
        ParameterInvalid: a line holds something else; `line` says which, from 1. Or there are too many IDs.
    """
    return _bounded(_id(number, line.strip()) for number, line in enumerate(_lines(text), start=1) if line.strip())


def ids_of_csv(text: bytes, *, header: bool | None = None) -> Iterator[int]:
    """The first column of a CSV file (RFC 4180) with commas; blank lines are passed over.

    Args:
        text: the file, in UTF-8.
        header: whether the first row is a header; None: it is one if it begins with a letter.

    Raises:
        RequestMalformed: it is no CSV file, or isn't UTF-8.
        ParameterInvalid: as `ids_of_text`. A row that goes over several lines is named by its last.
    """
    return _bounded(_id(number, column) for number, column in _first_columns(text, header=header))


def ids_of_list(ids: Sequence[object]) -> Iterator[int]:
    """A list's IDs.

    Raises:
        ParameterInvalid: something else is in it; `place` says where, from 1. Or there are too many.
    """
    for place, one in enumerate(ids, start=1):
        if type(one) is not int or not 1 <= one <= LARGEST_ID:
            raise ParameterInvalid(WRONG.format(f"place {place}"), place=place)
        if place > MOST_IDS:
            raise _too_many()
        yield one


def _lines(text: bytes) -> Iterator[str]:
    """One line after the other: a line feed stands in no other character of UTF-8. A byte order mark at the beginning is no part of it."""
    for number, line in enumerate(BytesIO(text), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            detail = f"the list of IDs must be in UTF-8; line {number} isn't"
            raise RequestMalformed(detail, line=number) from None


def _first_columns(text: bytes, *, header: bool | None) -> Iterator[tuple[int, str]]:
    rows = csv.reader(_lines(text), strict=True)
    first = True
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            column = row[0].strip()
            if first and (column[:1].isalpha() if header is None else header):
                first = False
            else:
                first = False
                yield rows.line_num, column
    except csv.Error:
        detail = f"the list of IDs is no CSV file; line {rows.line_num} can't be read"
        raise RequestMalformed(detail, line=rows.line_num) from None


def _id(line: int, text: str) -> int:
    number = read_id(text)
    if number is None:
        raise ParameterInvalid(WRONG.format(f"line {line}"), line=line)
    return number


def _bounded(ids: Iterable[int]) -> Iterator[int]:
    for count, one in enumerate(ids, start=1):
        if count > MOST_IDS:
            raise _too_many()
        yield one


def _too_many() -> ParameterInvalid:
    detail = f"a batch takes at most {MOST_IDS} IDs, and there are more; cut the list into several batches. Nothing was taken in"
    return ParameterInvalid(detail, max_items=MOST_IDS)
