"""Files of IDs: one a line, or CSV whose first column they are. Nothing of what a file holds is said back: it may be a secret."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import StartRefused

__all__ = ["IdList", "named", "read_ids"]

STANDARD_INPUT = "-"
LARGEST_ID = 2**63 - 1
ID_PATTERN = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
SHOWN_WRONG = 3
DELIMITERS = ";\t,"


@dataclass(frozen=True, slots=True)
class IdList:
    """A file's IDs in their order, each once; how many more there were; whether it has a header."""

    ids: tuple[int, ...]
    repeated: int
    headed: bool


def read_ids(file: str) -> IdList:
    """The IDs of a file in UTF-8, or of standard input for `-`.

    Empty lines are passed over. The first line is a header where its first column holds no digit. Columns are divided by commas,
    or by semicolons or tabs where the first line has some of these.

    Raises:
        StartRefused: it can't be read, isn't UTF-8, holds no ID, or a line holds what is none; the line is named.
    """
    name = named(file)
    return _parsed(_text(_bytes(file, name), name), name)


def named(file: str) -> str:
    """What a file is called."""
    return "standard input" if file == STANDARD_INPUT else file


def _bytes(file: str, name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except OSError as error:
        message = f"{name} can't be read: {error.strerror or error}"
        raise StartRefused(message) from error


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"{name}: line {line}: this isn't UTF-8"
        raise StartRefused(message) from None


def _parsed(text: str, name: str) -> IdList:
    cells = list(_first_cells(text, name))
    headed = bool(cells) and not any(map(str.isdigit, cells[0][1]))
    cells = cells[headed:]
    if wrong := [line for line, cell in cells if not _is_id(cell)]:
        raise StartRefused(_told(name, wrong))
    if not cells:
        message = f"{name} holds no ID"
        raise StartRefused(message)
    ids = tuple(dict.fromkeys(int(cell) for _, cell in cells))
    return IdList(ids, len(cells) - len(ids), headed)


def _first_cells(text: str, name: str) -> Iterator[tuple[int, str]]:
    """The first cell of each row that isn't empty, with the line that the row begins at."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    line = 1
    try:
        for row in reader:
            if any(map(str.strip, row)):
                yield line, row[0].strip()
            line = reader.line_num + 1
    except csv.Error as error:
        message = f"{name}: line {line}: this is no CSV: {error}"
        raise StartRefused(message) from None


def _delimiter(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return next((one for one in DELIMITERS if one in first), ",")


def _is_id(cell: str) -> bool:
    return ID_PATTERN.fullmatch(cell) is not None and int(cell) <= LARGEST_ID


def _told(name: str, wrong: list[int]) -> str:
    first = ", ".join(map(str, wrong[:SHOWN_WRONG]))
    more = f" and {len(wrong) - SHOWN_WRONG} more" if len(wrong) > SHOWN_WRONG else ""
    return f"{name}: line {first}{more}: here should stand an ID, a whole number from 1 to {LARGEST_ID}, and nothing else"
