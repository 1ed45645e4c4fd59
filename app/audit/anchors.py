"""Anchors: checkpoints kept where the database's owner can't change them, a line of JSON each."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import orjson

from app.audit.canonical import canonical
from app.audit.seals import Seal

__all__ = ["AnchorUnreadable", "anchor_line", "read_anchors"]


class AnchorUnreadable(Exception):
    """A line isn't an anchor."""


def anchor_line(seal: Seal) -> str:
    """A checkpoint as it is kept elsewhere: its body as it was signed, and the signature in base64; without a newline."""
    return canonical({"body": seal.body, "signature": base64.b64encode(seal.signature).decode()}).decode()


def read_anchors(lines: Iterable[bytes]) -> Iterator[tuple[int, Seal]]:
    """The checkpoints of these lines, each with its line's number; empty lines are passed over.

    Raises:
        AnchorUnreadable: a line isn't one; names its number.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _read(number, line)


def _read(number: int, line: bytes) -> Seal:
    try:
        members = orjson.loads(line)
        body, signature = members["body"], members["signature"]
        if isinstance(body, str):
            return Seal(body, base64.b64decode(signature, validate=True))
    except (ValueError, TypeError, KeyError) as error:
        message = f"line {number} isn't an anchor"
        raise AnchorUnreadable(message) from error
    message = f"line {number} isn't an anchor"
    raise AnchorUnreadable(message)
