"""What is known of a chain while its records go by."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from app.audit.chain import GENESIS
from app.audit.verification.points import Point
from app.audit.verification.rows import LARGEST_PLACE

__all__ = ["Gap", "Loose", "Progress"]

MOST_GAPS = 100_000
NEVER = LARGEST_PLACE + 1
"""A place that no record has."""


@dataclass(slots=True, eq=False)
class Gap:
    """Records of a chain that were not where they belong; some may come up elsewhere."""

    first: int
    last: int
    missing: int
    finding: int


@dataclass(slots=True, eq=False)
class Progress:
    """How far a chain has come.

    `hash` is what the next record must be chained to; after a doubtful record `other` is what it may be chained to instead. `sealed` is the
    place of the last checkpoint that went by, `covered` the last place that was proven. While it is `astray`, what a checkpoint says and
    what the records lead to differ, and that was told.
    """

    id: str
    buried: int = 0
    seq: int = 0
    hash: bytes = GENESIS
    other: bytes | None = None
    number: int = 0
    record: str | None = None
    due: list[Point] = field(default_factory=list)
    due_seq: int = NEVER
    sealed: int = 0
    covered: int = 0
    astray: bool = False
    gaps: list[Gap] = field(default_factory=list)
    jump: Gap | None = None
    named: list[tuple[str, int]] = field(default_factory=list)
    left: tuple[int, bytes] | None = None

    def open_gap(self, gap: Gap) -> None:
        """Keep one, to see whether its records come up elsewhere; of more than there is room for that isn't seen."""
        if len(self.gaps) < MOST_GAPS:
            self.gaps.append(gap)

    def gap_of(self, seq: int) -> Gap | None:
        """The gap in which a place lies. They don't overlap, and are kept in their order."""
        after = bisect_right(self.gaps, seq, key=lambda gap: gap.first)
        gap = self.gaps[after - 1] if after else None
        return gap if gap and seq <= gap.last else None

    def close_gap(self, gap: Gap) -> None:
        """Its records are accounted for."""
        after = bisect_right(self.gaps, gap.first, key=lambda gap: gap.first)
        if after and self.gaps[after - 1] is gap:
            del self.gaps[after - 1]

    def go_back(self, seq: int, known: bytes) -> None:
        """Stand where it stood before a record that turned out not to be its own."""
        self.seq, self.hash = seq, known
        self.other = self.jump = None
        while self.gaps and self.gaps[-1].first > seq:
            self.gaps.pop()

    def await_points(self, due: list[Point]) -> None:
        """These come next."""
        self.due, self.due_seq = due, due[0].seq if due else NEVER


@dataclass(frozen=True, slots=True)
class Loose:
    """A record that was found wrong, by its stored hash: what is chained to that may tell what it was.

    `taken` is the chain that took it for its own, with where that stood before; None where it was new.
    """

    finding: int
    number: int
    id: str | None = None
    taken: Progress | None = None
    before: tuple[int, bytes] | None = None
