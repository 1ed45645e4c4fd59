"""The whole verification of a database: seals first, then all records in one pass, then how the chains end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from app.audit.seals import Seal, Trusted
from app.audit.verification.archives import ArchiveCheck
from app.audit.verification.chains import Chains
from app.audit.verification.ending import Ending
from app.audit.verification.filing import Sum
from app.audit.verification.findings import Finding, Findings, Kind
from app.audit.verification.misfiled import misfiled
from app.audit.verification.points import Points, Source
from app.audit.verification.seals import SealCheck
from app.storage.scan import Damaged, Scan

__all__ = ["Verified", "verify"]

TABLES = {Source.CHECKPOINT: "audit_checkpoints", Source.TOMBSTONE: "audit_tombstones"}
MOST_MISFILED = 100
REMOVED = (Kind.RECORD_MISSING, Kind.RECORD_MISPLACED, Kind.CHAIN_CUT, Kind.CHAIN_MISSING)
"""What explains entries of the index whose record isn't there."""


@dataclass(frozen=True, slots=True)
class Verified:
    """How much was verified, and what was found."""

    records: int
    chains: int
    findings: Findings

    @property
    def holds(self) -> bool:
        """Whether nothing but notes was found."""
        return not self.findings.failures


def verify(
    scan: Scan,
    trusted: Trusted,
    *,
    anchors: Iterable[tuple[int, Seal]] = (),
    archive: Path | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Recompute every chain of a snapshot.

    Args:
        scan: reads the snapshot.
        trusted: the keys whose signatures are believed.
        anchors: checkpoints that were kept elsewhere, numbered.
        archive: the folder where archives of removed records lie; they are recomputed too.
        seen: is told how many more records were read.

    Raises:
        AnchorUnreadable: from `anchors`.
        Damaged: nothing can be read at all.
    """
    with closing(Points()) as points:
        return _Verification(scan, trusted, points).run(anchors, archive, seen)


class _Verification:
    def __init__(self, scan: Scan, trusted: Trusted, points: Points) -> None:
        self._scan = scan
        self._trusted = trusted
        self._points = points
        self._findings = Findings()
        self._seals = SealCheck(trusted, points, self._findings)
        self._filed, self._entries = Sum.pair()
        self._whole = True

    def run(self, anchors: Iterable[tuple[int, Seal]], archive: Path | None, seen: Callable[[int], None]) -> Verified:
        self._check_seals(anchors)
        chains = Chains(self._points, self._seals, self._findings, self._filed)
        self._follow(chains, seen)
        if archive:
            self._check_archives(archive)
        if self._whole:
            ending = Ending(chains, self._points, self._seals, self._scan.closed_chains(), self._findings)
            ending.look(self._scan.last_number())
            self._check_filing()
        return Verified(chains.rows, len(chains.progress), self._findings)

    def _check_seals(self, anchors: Iterable[tuple[int, Seal]]) -> None:
        for source, table in TABLES.items():
            try:
                for batch in self._scan.seals(table):
                    self._seals.see(source, batch)
            except Damaged as error:
                self._damaged(f"the table {table} can't be read on: {error}")
        self._seals.see(Source.ANCHOR, ((line, bytearray(seal.body.encode()), seal.signature) for line, seal in anchors))
        self._seals.bury()

    def _follow(self, chains: Chains, seen: Callable[[int], None]) -> None:
        try:
            for batch in self._scan.records():
                chains.see(batch)
                seen(len(batch))
        except Damaged as error:
            self._damaged(f"the records can't be read on, after about {chains.rows}: {error}")

    def _check_archives(self, folder: Path) -> None:
        check = ArchiveCheck(folder, self._points, self._findings)
        for tombstone in self._points.of(Source.TOMBSTONE):
            check.see(tombstone)

    def _check_filing(self) -> None:
        """The index of IDs is read as it lies there; only where it doesn't agree, it is looked at entry by entry."""
        try:
            for batch in self._scan.filed_ids():
                self._entries.add_entries(batch)
            if self._entries.value != self._filed.value:
                self._find_misfiled()
        except Damaged as error:
            self._damaged(f"the index of IDs can't be read on: {error}")

    def _find_misfiled(self) -> None:
        explained, records_removed = self._findings.numbers(), self._findings.any_of(*REMOVED)
        told = Counter[bool]()
        for one in misfiled(self._scan.records(), self._scan.filed_ids(in_order=True)):
            if one.number in explained or (records_removed and not one.there) or told[one.missing] == MOST_MISFILED:
                continue
            told[one.missing] += 1
            what = "lacks an entry" if one.missing else "has an entry that isn't the record's"
            text = f"the index of IDs {what}: {one.value}, record {one.number}"
            self._findings.add(Finding(Kind.INDEX_WRONG, text, number=one.number))
        if not (told or explained or records_removed):
            self._findings.add(Finding(Kind.INDEX_WRONG, "the index of IDs doesn't agree with the records"))

    def _damaged(self, text: str) -> None:
        self._whole = False
        self._findings.add(Finding(Kind.DATABASE_DAMAGED, text))
