"""Recomputing what was removed, from the archives that tombstones name."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import orjson

from app.audit.chain import GENESIS, next_hash
from app.audit.verification.findings import Finding, Findings, Kind
from app.audit.verification.points import Point, Points
from app.storage.scan import LARGEST_VALUE

__all__ = ["ArchiveCheck"]


class ArchiveCheck:
    """Checks the archives of tombstones, given in the order of their chains.

    Args:
        folder: where the archives lie.
        points: what is signed, and where it is due.
        findings: where what is found is put.
    """

    def __init__(self, folder: Path, points: Points, findings: Findings) -> None:
        self._folder = folder
        self._points = points
        self._findings = findings
        self._before: Point | None = None

    def see(self, tombstone: Point) -> None:
        """Check the archive of one; each tombstone of a chain follows the one before."""
        chain, first, before = tombstone.chain, tombstone.previous, self._before
        self._before = tombstone
        if tombstone.file is None:
            return
        path = self._folder / Path(tombstone.file).name
        follows = before is not None and (before.chain, before.seq) == (chain, first - 1)
        start = GENESIS if first == 1 else before.hash if before and follows else None
        kind, text = (
            (Kind.ARCHIVE_WRONG, self._wrong_with(path, start, tombstone)) if path.exists() else (Kind.ARCHIVE_ABSENT, "it isn't there")
        )
        if text:
            self._findings.add(Finding(kind, f"the archive {path.name}: {text}", chain, first, tombstone.seq))

    def _wrong_with(self, path: Path, start: bytes | None, tombstone: Point) -> str | None:
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != tombstone.sha256:
                    return "its content isn't what the tombstone says"
            if start is None:
                return "the tombstone before is missing, so that it can't be recomputed"
            return self._wrong_records(path, start, tombstone)
        except (OSError, EOFError, zlib.error) as error:
            return f"it can't be read: {error}"

    def _wrong_records(self, path: Path, start: bytes, tombstone: Point) -> str | None:
        head, seq = start, tombstone.previous - 1
        due = self._points.next(tombstone.chain, seq)
        with gzip.open(path) as lines:
            while line := lines.readline(LARGEST_VALUE):
                body, seq = line.rstrip(b"\n"), seq + 1
                if not _is_record(body, tombstone.chain, seq):
                    return f"line {seq - tombstone.previous + 1} isn't record {seq} of the chain"
                head = next_hash(head, body)
                if due and due[0].seq == seq:
                    if wrong := next((point for point in due if point.hash != head), None):
                        return f"its records don't lead to the hash in the {wrong.source} of record {seq}"
                    due = self._points.next(tombstone.chain, seq)
        return _unless_led(seq, head, tombstone)


def _unless_led(seq: int, head: bytes, tombstone: Point) -> str | None:
    return None if (seq, head) == (tombstone.seq, tombstone.hash) else f"its records don't lead to the hash of record {tombstone.seq}"


def _is_record(body: bytes, chain: str, seq: int) -> bool:
    try:
        members = orjson.loads(body)
        return bool(members["chain"] == chain and members["seq"] == seq)
    except (ValueError, TypeError, KeyError):
        return False
