"""What a verification finds: each with its kind and its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["Finding", "Findings", "Kind"]

MOST_KEPT = 1_000


class Kind(StrEnum):
    """What is the matter."""

    RECORD_ALTERED = "record-altered"
    RECORDS_ALTERED = "records-altered"
    RECORD_MISSING = "record-missing"
    RECORD_MISPLACED = "record-misplaced"
    RECORD_FOREIGN = "record-foreign"
    CHAIN_CUT = "chain-cut"
    CHAIN_MISSING = "chain-missing"
    SIGNATURE_WRONG = "signature-wrong"
    KEY_UNKNOWN = "key-unknown"
    CHECKPOINT_MISSING = "checkpoint-missing"
    TOMBSTONE_MISSING = "tombstone-missing"
    PRUNE_UNRECORDED = "prune-unrecorded"
    ARCHIVE_WRONG = "archive-wrong"
    INDEX_WRONG = "index-wrong"
    DATABASE_DAMAGED = "database-damaged"
    TAIL_UNCOVERED = "tail-uncovered"
    REMOVAL_UNFINISHED = "removal-unfinished"
    ARCHIVE_ABSENT = "archive-absent"

    @property
    def is_note(self) -> bool:
        """Whether all holds nevertheless."""
        return self in {Kind.TAIL_UNCOVERED, Kind.REMOVAL_UNFINISHED, Kind.ARCHIVE_ABSENT}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Args:
        kind: what is the matter.
        text: one sentence for people.
        chain: the chain, where it is known.
        seq: the place in the chain: that of the first record concerned.
        until: the place of the last, where there may be several.
        number: the place among all records.
        id: the record's ID.
    """

    kind: Kind
    text: str
    chain: str | None = None
    seq: int | None = None
    until: int | None = None
    number: int | None = None
    id: str | None = None

    def members(self) -> dict[str, str | int]:
        """As a program reads it; what isn't known is left out."""
        named = {
            "kind": self.kind.value,
            "text": self.text,
            "chain": self.chain,
            "seq": self.seq,
            "until": self.until,
            "number": self.number,
            "id": self.id,
        }
        return {name: value for name, value in named.items() if value is not None}


class Findings:
    """Collects findings: the first thousand failures and the first thousand notes whole, of the others how many there are.

    One may turn out to be another, or none.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Finding] = {}
        self._notes = 0
        self._made = 0
        self.failures = 0
        self.more = 0

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kept.values())

    def add(self, finding: Finding) -> int:
        """Add one; gives what it can be replaced or withdrawn by."""
        self._made += 1
        is_note = finding.kind.is_note
        kept = self._notes if is_note else len(self._kept) - self._notes
        self.failures += not is_note
        if kept < MOST_KEPT:
            self._notes += is_note
            self._kept[self._made] = finding
        else:
            self.more += 1
        return self._made

    def change(self, one: int, **traits: object) -> None:
        """It is known better now what was found."""
        if one in self._kept:
            self._kept[one] = replace(self._kept[one], **traits)  # type: ignore[arg-type]

    def withdraw(self, one: int) -> None:
        """It is explained by another; 0 stands for none."""
        if not one:
            return
        self.failures -= 1
        if self._kept.pop(one, None) is None:
            self.more -= 1

    def is_of(self, one: int, kind: Kind) -> bool:
        """Whether one is of that kind, as far as it is kept."""
        return one in self._kept and self._kept[one].kind is kind

    def numbers(self) -> set[int]:
        """The numbers of the records that failures concern."""
        return {one.number for one in self._kept.values() if one.number is not None and not one.kind.is_note}

    def concerns(self, chain: str) -> bool:
        """Whether a failure is that chain's, or may be."""
        return any(one.chain in {chain, None} and not one.kind.is_note for one in self._kept.values())

    def any_of(self, *kinds: Kind) -> bool:
        """Whether something of these kinds was found."""
        return any(finding.kind in kinds for finding in self._kept.values())
