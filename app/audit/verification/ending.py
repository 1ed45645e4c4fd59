"""What is known when all records have gone by: chains that were cut, chains that are missing, tails that nothing covers."""

from __future__ import annotations

from collections.abc import Collection

from app.audit.chain import ADMINISTRATION
from app.audit.verification.chains import Chains, not_left
from app.audit.verification.findings import Finding, Findings, Kind
from app.audit.verification.points import Points, Source
from app.audit.verification.seals import SealCheck
from app.audit.verification.state import Progress

__all__ = ["Ending"]

UNSIGNED = frozenset({"before-chains"})
"""Records that are older than checkpoints."""


class Ending:
    """Looks at how the chains end.

    Args:
        chains: all records of the database have gone by there.
        points: what is signed.
        seals: has seen all seals.
        closed: the chains that their processes ended, and sealed before.
        findings: where what is found is put.
    """

    def __init__(self, chains: Chains, points: Points, seals: SealCheck, closed: Collection[str], findings: Findings) -> None:
        self._chains = chains
        self._points = points
        self._seals = seals
        self._closed = closed
        self._findings = findings

    def look(self, last_number: int) -> None:
        """Look at all chains, those too that are only named; `last_number` is the highest of a record."""
        for name in self._points.chains():
            self._chains.find_loose(name)
        for chain in self._chains.progress.values():
            self._end(chain)
        for name in sorted({*self._points.chains(), *self._chains.claims} - {*self._chains.progress}):
            self._absent(name)
        self._miss_pruned()
        self._count(last_number)
        if self._chains.left:
            text = f"{self._chains.left} records lie there yet that tombstones stand for: a prune was interrupted, or goes on"
            self._findings.add(Finding(Kind.REMOVAL_UNFINISHED, text))

    def _end(self, chain: Progress) -> None:
        if chain.left and chain.left[0] < chain.buried:
            self._findings.add(not_left(chain, chain.buried))
        named = self._named(chain.id)
        if named > chain.seq:
            text = f"the chain ends at {chain.seq}, but its record {named} is named by what was signed or by another chain"
            self._findings.add(Finding(Kind.CHAIN_CUT, text, chain.id, chain.seq + 1, named, chain.number or None))
        elif chain.seq > max(chain.sealed, chain.buried):
            self._uncovered(chain)

    def _uncovered(self, chain: Progress) -> None:
        first, last = max(chain.sealed, chain.buried) + 1, chain.seq
        if chain.id == ADMINISTRATION or (chain.id in self._closed and chain.id not in UNSIGNED):
            if not self._seals.excused(Source.CHECKPOINT):
                text = f"no checkpoint covers the records {first} to {last}, but one was made"
                self._findings.add(Finding(Kind.CHECKPOINT_MISSING, text, chain.id, last))
        elif chain.covered < last:
            text = f"no checkpoint covers the records {max(first, chain.covered + 1)} to {last} yet"
            self._findings.add(Finding(Kind.TAIL_UNCOVERED, text, chain.id, max(first, chain.covered + 1), last, chain.number))

    def _absent(self, name: str) -> None:
        named, buried = self._named(name), self._seals.buried[name].seq if name in self._seals.buried else 0
        if named <= buried:
            return
        if buried:
            text = f"the chain was removed up to {buried}, but its record {named} is named by what was signed or by another chain"
            self._findings.add(Finding(Kind.CHAIN_CUT, text, name, buried + 1, named))
        else:
            text = f"the chain is missing, whose record {named} is named by what was signed or by another chain"
            self._findings.add(Finding(Kind.CHAIN_MISSING, text, name, 1, named))

    def _named(self, name: str) -> int:
        return max(self._points.last(name), self._chains.claims.get(name, 0))

    def _miss_pruned(self) -> None:
        """What is removed is put on record in the same transaction. Where the changes themselves don't hold, that explains it."""
        if self._findings.concerns(ADMINISTRATION):
            return
        for stone in self._points.unrecorded():
            text = f"a tombstone stands for the records {stone.previous} to {stone.seq}, but no `audit:pruned` tells of it: made elsewhere"
            self._findings.add(Finding(Kind.PRUNE_UNRECORDED, text, stone.chain, stone.previous, stone.seq))

    def _count(self, last_number: int) -> None:
        """Numbers have no gaps but those that prunes left. Where something was found already, that explains it."""
        removed = sum(point.seq for point in self._seals.buried.values()) - self._chains.left
        missing = last_number - self._chains.rows - removed
        if missing > 0 and not self._findings.failures:
            text = f"{missing} of the numbers 1 to {last_number} have no record, and no tombstone stands for it: cut from a chain's end"
            self._findings.add(Finding(Kind.RECORD_MISSING, text))
