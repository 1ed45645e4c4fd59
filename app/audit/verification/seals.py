"""Checking what is signed, and keeping what it says for the chains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from app.audit.seals import KeyUnknown, SignatureWrong, Trusted
from app.audit.verification.findings import Finding, Findings, Kind
from app.audit.verification.points import Point, Points, Source
from app.audit.verification.rows import is_place
from app.storage.scan import RawRow

__all__ = ["SealCheck", "read_seal"]


class SealCheck:
    """Checks seals one by one.

    Args:
        trusted: whose signatures are believed.
        points: where what they say is kept.
        findings: where what is wrong with them is put.
    """

    def __init__(self, trusted: Trusted, points: Points, findings: Findings) -> None:
        self._trusted = trusted
        self._points = points
        self._findings = findings
        self._unbelieved: Counter[Source] = Counter()
        self.buried: dict[str, Point] = {}

    def see(self, source: Source, rows: Iterable[RawRow]) -> None:
        """Check these."""
        for place, body, signature in rows:
            try:
                point = read_seal(self._trusted, source, body, signature)
            except KeyUnknown as error:
                self._doubt(source, place, body, Kind.KEY_UNKNOWN, f"is signed by the key {error}, which isn't trusted")
            except SignatureWrong:
                self._doubt(source, place, body, Kind.SIGNATURE_WRONG, "isn't what its key signed")
            else:
                self._points.add(point)

    def bury(self) -> None:
        """Learn from the tombstones, all seen, what they stand for; each must follow the one before, and agree with what else is signed."""
        for point in self._points.of(Source.TOMBSTONE):
            before = self.buried.get(point.chain)
            reached, first = before.seq if before else 0, point.previous
            if first > reached + 1 and not self.excused(Source.TOMBSTONE):
                text = f"no tombstone stands for the records {reached + 1} to {first - 1}, which another says were removed before"
                self._findings.add(Finding(Kind.TOMBSTONE_MISSING, text, point.chain, reached + 1, first - 1))
            self.buried[point.chain] = point
        for point in self._points.clashes():
            text = f"the tombstone at {point.seq} names another hash than the {point.source} there: what it stands for was altered"
            self._findings.add(Finding(Kind.RECORDS_ALTERED, text, point.chain, point.seq))

    def excused(self, source: Source) -> bool:
        """Whether one that is missing may be one that was found and isn't believed; each excuses one."""
        excused = self._unbelieved[source] > 0
        self._unbelieved[source] -= excused
        return excused

    def _doubt(self, source: Source, place: int, body: object, kind: Kind, what: str) -> None:
        self._unbelieved[source] += 1
        chain, seq = _claimed(body)
        self._findings.add(Finding(kind, f"the {source} in row {place} {what}", chain, seq))


def read_seal(trusted: Trusted, source: Source, body: object, signature: object) -> Point:
    """What a seal says, as its columns are read.

    Raises:
        KeyUnknown: it names a key that isn't trusted.
        SignatureWrong: it isn't what that key signed, or is something else that was signed.
    """
    if type(body) is not bytearray or type(signature) is not bytes:
        raise SignatureWrong
    members = trusted.check(bytes(body), signature)
    if members.get("kind") != (Source.TOMBSTONE if source is Source.TOMBSTONE else Source.CHECKPOINT):
        raise SignatureWrong
    return _said(source, members)


def _claimed(body: object) -> tuple[str | None, int | None]:
    """The chain and place that an unbelieved seal tells, where it can be read."""
    try:
        members = orjson.loads(body)  # type: ignore[arg-type]
        chain, seq = members["chain"], members["seq"]
    except (ValueError, TypeError, KeyError):
        return None, None
    return (chain, seq) if isinstance(chain, str) and isinstance(seq, int) else (None, None)


def _said(source: Source, members: Mapping[str, Any]) -> Point:
    """What a believed seal says.

    Raises:
        SignatureWrong: it was signed, but is no seal that the gateway makes.
    """
    try:
        chain, seq, known = members["chain"], members["seq"], bytes.fromhex(members["hash"])
        previous = members["first"] if source is Source.TOMBSTONE else members["previous"]
    except (ValueError, TypeError, KeyError) as error:
        raise SignatureWrong from error
    if not (isinstance(chain, str) and is_place(seq) and (is_place(previous) or previous == 0) and previous <= seq):
        raise SignatureWrong
    file, sha256, at, before = (_text(members, name) for name in ("file", "sha256", "at", "before"))
    return Point(chain, seq, source, known, previous, file, sha256, at or "", before or "")


def _text(members: Mapping[str, Any], name: str) -> str | None:
    found = members.get(name)
    return found if isinstance(found, str) else None
