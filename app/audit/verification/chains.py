"""Recomputing the chains, in one pass over all records, in memory for each chain and none for each record. No I/O but for the points."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.audit.chain import ADMINISTRATION, GENESIS
from app.audit.own_chain import CHECKPOINT_RECORDS
from app.audit.records import Name
from app.audit.verification.filing import Sum
from app.audit.verification.findings import Finding, Findings, Kind
from app.audit.verification.points import Points, Source
from app.audit.verification.rows import StrayRow, is_place, stray_row
from app.audit.verification.seals import SealCheck
from app.audit.verification.state import Gap, Loose, Progress
from app.storage.scan import RawRow

__all__ = ["Chains", "not_left"]

MOST_LOOSE = 64


class Chains:
    """Follows every chain through the records, in order of number.

    After a finding it goes on with the hash that is stored, so that one edit is one finding.

    Args:
        points: what is signed, and where it is due.
        seals: has seen all seals.
        findings: where what is found is put.
        filed: sums up what the records are filed by.
    """

    def __init__(self, points: Points, seals: SealCheck, findings: Findings, filed: Sum) -> None:
        self._points = points
        self._seals = seals
        self._findings = findings
        self._filed = filed
        self._loose: dict[bytes, Loose] = {}
        self.progress: dict[str, Progress] = {}
        self.claims: dict[str, int] = {}
        self.rows = 0
        self.left = 0

    def see(self, batch: Sequence[RawRow]) -> None:
        """Follow these records."""
        progress, loads, sha256 = self.progress, orjson.loads, hashlib.sha256
        for number, body, stored in batch:
            try:
                members = loads(body)
                chain = progress[members["chain"]]
                follows = (
                    sha256(chain.hash + body).digest() == stored
                    and members["seq"] == chain.seq + 1
                    and members["number"] == number
                    and type(body) is bytearray
                    and type(stored) is bytes
                )
            except (ValueError, TypeError, KeyError):
                # It isn't JSON, or not a record, or the first of its chain.
                follows = False
            if follows:
                self._take(chain, number, stored, members)
            else:
                self._stray(number, body, stored)
        self.rows += len(batch)

    def _take(self, chain: Progress, number: int, stored: bytes, members: Mapping[str, Any]) -> None:
        chain.seq += 1
        chain.hash, chain.number = stored, number
        chain.other = chain.jump = None
        self._filed.add_record(number, members)
        if chain.seq == chain.due_seq:
            self.settle(chain)
        name = members.get("name")
        if name == Name.CHAIN_OPENED:
            self._heed(chain, members)
        elif name == Name.AUDIT_PRUNED and chain.id == ADMINISTRATION:
            self._note_pruned(members)

    def _note_pruned(self, members: Mapping[str, Any]) -> None:
        pruned, first, last = (members.get(name) for name in ("pruned_chain", "first", "last"))
        if isinstance(pruned, str) and is_place(first) and is_place(last):
            self._points.add_pruned(pruned, first, last)

    def settle(self, chain: Progress) -> None:
        """Compare the chain with the points at the place that it has reached."""
        self._check_order(chain)
        self._check_span(chain)
        wrong = [point for point in chain.due if point.hash not in (chain.hash, chain.other)]
        if wrong:
            self._contradicted(chain, chain.seq, wrong[0].hash, wrong[0].source)
        else:
            self._proven(chain, chain.due[0].hash)
        chain.sealed = max(chain.sealed, chain.seq)
        chain.await_points(self._points.next(chain.id, chain.seq))

    def _proven(self, chain: Progress, known: bytes) -> None:
        chain.hash, chain.other = known, None
        chain.covered, chain.astray = chain.seq, False
        for named, seq in chain.named:
            if named in self.progress:
                self.progress[named].covered = max(self.progress[named].covered, seq)
        chain.named.clear()

    def _contradicted(self, chain: Progress, seq: int, known: bytes, source: str) -> None:
        if not chain.astray:
            text = f"the records {chain.covered + 1} to {seq} don't lead to the hash in the {source}: altered, and hashed anew"
            self._findings.add(Finding(Kind.RECORDS_ALTERED, text, chain.id, chain.covered + 1, seq))
        chain.astray, chain.other = True, known

    def _check_order(self, chain: Progress) -> None:
        """Every checkpoint names the one before, and every anchor was a checkpoint."""
        checkpoints = [point for point in chain.due if point.source is Source.CHECKPOINT]
        missing = chain.due_seq if not checkpoints else checkpoints[0].previous or 0
        if missing > max(chain.sealed, chain.buried) and not self._seals.excused(Source.CHECKPOINT):
            by = "an anchor" if not checkpoints else f"the next, at {chain.due_seq},"
            self._findings.add(
                Finding(Kind.CHECKPOINT_MISSING, f"the checkpoint at {missing} is missing, which {by} names", chain.id, missing)
            )

    def _check_span(self, chain: Progress) -> None:
        """A process seals its chain often; a checkpoint over more than that was made after others were taken away."""
        previous = min(point.previous for point in chain.due)
        if chain.id != ADMINISTRATION and chain.due_seq - previous > CHECKPOINT_RECORDS:
            due = previous + CHECKPOINT_RECORDS
            text = f"the checkpoint at {chain.due_seq} names that at {previous} as the one before, but by {due} another must have been made"
            self._findings.add(Finding(Kind.CHECKPOINT_MISSING, text, chain.id, due))

    def _heed(self, chain: Progress, members: Mapping[str, Any]) -> None:
        """The first record of a chain says where the others stood."""
        for named, seq, known in _heads(members):
            other = self.progress.get(named)
            if other and known in self._loose and other.seq == seq - 1:
                self.explain(other, known)
            reached = other.seq if other else self._seals.buried[named].seq if named in self._seals.buried else 0
            if seq > reached:
                self.claims[named] = max(self.claims.get(named, 0), seq)
            elif other and seq == other.seq and known not in (other.hash, other.other):
                self._contradicted(other, seq, known, f"first record of the chain {chain.id}")
            else:
                chain.named.append((named, seq))

    def _stray(self, number: int, body: object, stored: object) -> None:
        row = stray_row(number, body, stored)
        if row is None:
            found = self._findings.add(Finding(Kind.RECORD_ALTERED, f"record {number} isn't a record any more", number=number))
            self._lose(bytes(stored) if isinstance(stored, bytes | bytearray) else b"", Loose(found, number))
            return
        chain = self.progress.get(row.chain) or self._begin(row.chain)
        if row.seq <= chain.buried:
            self._remain(chain, row)
        elif row.seq == chain.seq + 1:
            self._next(chain, row)
        elif row.seq > chain.seq:
            self._ahead(chain, row)
        else:
            self._behind(chain, row)

    def _begin(self, name: str) -> Progress:
        chain, tombstone = Progress(name), self._seals.buried.get(name)
        if tombstone:
            chain.buried = chain.seq = chain.covered = tombstone.seq
            chain.hash = tombstone.hash
        chain.await_points(self._points.next(chain.id, chain.seq))
        self.progress[chain.id] = chain
        return chain

    def _remain(self, chain: Progress, row: StrayRow) -> None:
        """A record that a tombstone stands for already: its removal was interrupted.

        The oldest go first, so what is left is whole up to the tombstone's place.
        """
        self.left += 1
        self._filed.add_record(row.number, row.members)
        if chain.left and row.seq <= chain.left[0]:
            self._findings.add(_found(Kind.RECORD_FOREIGN, row, "another record has its place in what was being removed"))
            return
        known = self._known_before(chain, row)
        follows = not known or any(row.follows(one) for one in known)
        agrees = all(point.hash == row.hash for point in self._points.at(chain.id, row.seq))
        if not (follows and agrees and row.sound and row.in_its_place):
            self._findings.add(_found(Kind.RECORD_ALTERED, row, "a record that was being removed was altered"))
        chain.left = row.seq, row.hash

    def _known_before(self, chain: Progress, row: StrayRow) -> set[bytes]:
        """The hashes that a record which was being removed may follow; none where nobody knows any more what was before it."""
        if chain.left and row.seq == chain.left[0] + 1:
            return {chain.left[1]}
        before = self._before(row)
        if before:
            self._explain(before, chain.id, row.seq - 1)
        if chain.left and row.seq - 1 - bool(before) > chain.left[0]:
            self._findings.add(not_left(chain, row.seq - 1 - bool(before)))
        if before:
            return {before}
        return {GENESIS} if row.seq == 1 else {point.hash for point in self._points.at(chain.id, row.seq - 1)}

    def _next(self, chain: Progress, row: StrayRow) -> None:
        if not (row.follows(chain.hash) or row.follows(chain.other)):
            found = _found(Kind.RECORD_ALTERED, row, "it doesn't follow from the record before: altered, or not written by the gateway")
            self._adopt(chain, row, self._findings.add(found), row.chained_to(chain.hash))
            return
        if not row.sound:
            self._findings.add(_found(Kind.RECORD_ALTERED, row, "it isn't stored in the type that it was written in"))
        elif not row.in_its_place:
            self._findings.add(_found(Kind.RECORD_MISPLACED, row, f"it belongs at number {row.told_number}"))
        self._take(chain, row.number, row.hash, row.members)

    def _adopt(self, chain: Progress, row: StrayRow, finding: int | None, other: bytes | None = None, jump: Gap | None = None) -> None:
        """Go on from a record that doesn't follow."""
        if finding is not None:
            self._lose(row.hash, Loose(finding, row.number, row.id, chain, (chain.seq, chain.hash) if chain.number else None))
        self._filed.add_record(row.number, row.members)
        chain.seq, chain.hash, chain.number, chain.record = row.seq, row.hash, row.number, row.id
        chain.other, chain.jump = other, jump
        if chain.due_seq < chain.seq:
            chain.sealed = chain.seq - 1
            chain.await_points(self._points.next(chain.id, chain.seq - 1))
        if chain.due_seq == chain.seq:
            self.settle(chain)

    def _ahead(self, chain: Progress, row: StrayRow) -> None:
        """Its place is beyond the next."""
        if not row.in_its_place:
            found = _found(Kind.RECORD_MISPLACED, row, f"it belongs at number {row.told_number}")
            self._filed.add_record(row.number, row.members)
            self._lose(row.hash, Loose(self._findings.add(found), row.number, row.id))
            return
        if chain.due_seq == chain.seq + 1 and any(point.hash == row.hash for point in chain.due):
            self._retold(chain, row, chain.due_seq)
            return
        before = self._before(row)
        if before:
            self._explain(before, chain.id, row.seq - 1)
        first, last = chain.seq + 1, row.seq - 1 - bool(before)
        if first > last:
            self._adopt(chain, row, None)
            return
        gap = self._open_gap(chain, row, first, last)
        self._adopt(chain, row, gap.finding, jump=gap)

    def _retold(self, chain: Progress, row: StrayRow, seq: int) -> None:
        """A checkpoint knows it by its hash, at another place than its body tells."""
        self._findings.add(_found(Kind.RECORD_ALTERED, row, f"its body tells another place, {row.seq}", seq=seq))
        self._filed.add_record(row.number, row.members)
        chain.seq, chain.hash, chain.number, chain.other, chain.jump = seq, row.hash, row.number, None, None
        self.settle(chain)

    def _open_gap(self, chain: Progress, row: StrayRow, first: int, last: int) -> Gap:
        after = f"after number {chain.number}" if chain.number else "and no tombstone stands for them"
        text = f"the records {first} to {last} of the chain are missing, {after}" if last > first else f"record {first} is missing, {after}"
        if chain.number or not self._seals.excused(Source.TOMBSTONE):
            finding = self._findings.add(Finding(Kind.RECORD_MISSING, text, row.chain, first, last, chain.number or None))
        else:
            finding = 0
        gap = Gap(first, last, last - first + 1, finding)
        chain.open_gap(gap)
        return gap

    def _behind(self, chain: Progress, row: StrayRow) -> None:
        """Its place is taken, or was missed."""
        jump = chain.jump
        if jump and row.seq == jump.first + 1 and row.follows(chain.hash):
            text = "it doesn't follow from the record before: its body tells another place"
            traits = {"kind": Kind.RECORD_ALTERED, "until": None, "number": chain.number, "id": chain.record, "text": text}
            self._findings.change(jump.finding, **traits)
            chain.close_gap(jump)
            chain.seq = row.seq - 1
            chain.await_points(self._points.next(chain.id, chain.seq))
            self._take(chain, row.number, row.hash, row.members)
            return
        self._filed.add_record(row.number, row.members)
        gap = chain.gap_of(row.seq)
        if gap:
            self._findings.add(_found(Kind.RECORD_MISPLACED, row, f"it belongs at number {row.told_number}"))
            self._fill(chain, gap)
        else:
            found = _found(Kind.RECORD_FOREIGN, row, "another record has its place in the chain")
            self._lose(row.hash, Loose(self._findings.add(found), row.number, row.id))

    def _fill(self, chain: Progress, gap: Gap) -> None:
        gap.missing -= 1
        if not gap.missing:
            self._findings.withdraw(gap.finding)
            chain.close_gap(gap)

    def _lose(self, stored: bytes, loose: Loose) -> None:
        self._loose[stored] = loose
        if len(self._loose) > MOST_LOOSE:
            del self._loose[next(iter(self._loose))]

    def _before(self, row: StrayRow) -> bytes | None:
        """The hash of the loose record that this one is chained to."""
        return next((stored for stored in self._loose if row.follows(stored)), None)

    def _explain(self, stored: bytes, chain: str, seq: int) -> None:
        """A loose record turns out to be that of this place."""
        loose = self._loose.pop(stored)
        traits: dict[str, Any] = {"chain": chain, "seq": seq, "until": None, "number": loose.number, "id": loose.id}
        if not self._findings.is_of(loose.finding, Kind.RECORD_MISPLACED):
            traits |= {"kind": Kind.RECORD_ALTERED, "text": f"record {loose.number}: it isn't what the chain holds in its place"}
        self._findings.change(loose.finding, **traits)
        if loose.taken and loose.taken.hash == stored:
            self._give_back(loose.taken, loose)

    def _give_back(self, chain: Progress, loose: Loose) -> None:
        """A chain had taken another's record for its own."""
        if loose.before is None:
            del self.progress[chain.id]
            return
        chain.go_back(*loose.before)
        chain.await_points(self._points.next(chain.id, chain.seq))

    def explain(self, chain: Progress, known: bytes) -> None:
        """A loose record turns out, by what is known of its hash, to be the chain's next."""
        self._explain(known, chain.id, chain.seq + 1)
        chain.seq += 1
        chain.hash, chain.other, chain.jump = known, None, None
        if chain.seq == chain.due_seq:
            self.settle(chain)

    def find_loose(self, name: str) -> None:
        """Take for a chain's next records the loose ones that its points know by their hashes."""
        chain = self.progress.get(name) or self._begin(name)
        while (known := self._loose_next(chain)) is not None:
            self.explain(chain, known)
        if not chain.number and chain.seq == chain.buried:
            self.progress.pop(name, None)

    def _loose_next(self, chain: Progress) -> bytes | None:
        if chain.due_seq != chain.seq + 1:
            return None
        return next((point.hash for point in chain.due if point.hash in self._loose), None)


def _found(kind: Kind, row: StrayRow, text: str, *, seq: int | None = None) -> Finding:
    return Finding(kind, f"record {row.number}: {text}", row.chain, seq or row.seq, None, row.number, row.id)


def not_left(chain: Progress, last: int) -> Finding:
    """Records up to `last` are gone that should be left, since older ones are."""
    first = (chain.left[0] if chain.left else 0) + 1
    text = f"the records {first} to {last} of a stretch that was being removed are gone, though older ones are left: the oldest go first"
    return Finding(Kind.RECORD_MISSING, text, chain.id, first, last)


def _heads(members: Mapping[str, Any]) -> list[tuple[str, int, bytes]]:
    """Chain, place and hash of each head; none where they aren't what the gateway writes, which a checkpoint then tells."""
    try:
        heads = [(head["chain"], head["seq"], bytes.fromhex(head["hash"])) for head in members["heads"]]
    except (KeyError, TypeError, ValueError):
        return []
    return heads if all(isinstance(chain, str) and is_place(seq) for chain, seq, _ in heads) else []
