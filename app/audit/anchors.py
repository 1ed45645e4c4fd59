"""Anchors: checkpoints kept where the database's owner can't change them, a line of JSON each."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from app.audit.canonical import canonical
from app.audit.seals import KeyUnknown, Seal, SignatureWrong, Trusted
from app.audit.verification.points import Source
from app.audit.verification.seals import read_seal
from app.storage.scan import RawRow

__all__ = ["AnchorUnreadable", "Anchors", "anchor_line", "newest_anchors", "read_anchors"]


class AnchorUnreadable(Exception):
    """A line isn't an anchor."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """The newest checkpoint of each chain, and in which rows there are some that aren't to be believed."""

    seals: list[Seal]
    doubtful: list[int]


def newest_anchors(checkpoints: Iterable[Sequence[RawRow]], trusted: Trusted) -> Anchors:
    """What is to be kept of all checkpoints; what isn't signed by a trusted key is left out.

    Args:
        checkpoints: row, body and signature of each, in batches, as they are stored.
        trusted: whose signatures are believed.
    """
    newest: dict[str, tuple[int, Seal]] = {}
    doubtful = []
    for row, body, signature in (one for batch in checkpoints for one in batch):
        try:
            point = read_seal(trusted, Source.CHECKPOINT, body, signature)
        except (KeyUnknown, SignatureWrong):
            doubtful.append(row)
        else:
            if point.seq > newest.get(point.chain, (0,))[0]:
                newest[point.chain] = point.seq, Seal(body.decode(), signature)
    return Anchors([seal for _, seal in newest.values()], doubtful)


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
