"""The points at which a chain's hash is known from elsewhere: checkpoints, anchors and tombstones, each signed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from app.audit.chain import ADMINISTRATION

__all__ = ["Point", "Points", "Source"]

TABLE = (
    "CREATE TABLE points (chain, seq, source, hash, previous, file, sha256, at, before, PRIMARY KEY (chain, seq, source, hash)) "
    "WITHOUT ROWID"
)
PRUNED = "CREATE TABLE pruned (chain, first, last, PRIMARY KEY (chain, first, last)) WITHOUT ROWID"
COLUMNS = "SELECT * FROM points"
AT = f"{COLUMNS} WHERE chain = ? AND seq = ? ORDER BY source"
CLASHES = (
    "SELECT said.* FROM points AS said "
    "JOIN points AS stone ON stone.chain = said.chain AND stone.seq = said.seq AND stone.source = 'tombstone' "
    "WHERE said.source != 'tombstone' AND said.hash != stone.hash ORDER BY said.chain, said.seq"
)
UNRECORDED = (
    f"{COLUMNS} AS stone WHERE source = 'tombstone' "  # noqa: S608 - constants
    "AND NOT EXISTS (SELECT 1 FROM pruned WHERE chain = stone.chain AND first = stone.previous AND last = stone.seq) "
    f"AND at >= (SELECT coalesce(max(before), '') FROM points WHERE source = 'tombstone' AND chain = '{ADMINISTRATION}') "
    "ORDER BY chain, seq"
)
NEXT = COLUMNS + " WHERE chain = ? AND seq = (SELECT min(seq) FROM points WHERE chain = ? AND seq > ?) ORDER BY source"  # noqa: S608 - constants


class Source(StrEnum):
    """What says it."""

    ANCHOR = "anchor"
    CHECKPOINT = "checkpoint"
    TOMBSTONE = "tombstone"


class Point(NamedTuple):
    """A chain's record at `seq` has this hash.

    `previous` is the place of the checkpoint before or, of a tombstone, that of the first record that it stands for; `file` and `sha256`
    name the archive of these. It was signed `at` that time, and stands for nothing that isn't from `before` that one.
    """

    chain: str
    seq: int
    source: Source
    hash: bytes
    previous: int = 0
    file: str | None = None
    sha256: str | None = None
    at: str = ""
    before: str = ""


class Points:
    """Keeps points in order, on disk where they are many: there may be as many as records."""

    def __init__(self) -> None:
        # An empty name is a temporary database, whose pages go to an unnamed file when they are more than its cache.
        self._connection = sqlite3.connect("")
        self._connection.execute(TABLE)
        self._connection.execute(PRUNED)

    def add(self, point: Point) -> None:
        """Keep one."""
        self._connection.execute("INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", point)

    def next(self, chain: str, after: int) -> list[Point]:
        """The points at the next place of a chain that has any."""
        return list(self._points(NEXT, chain, chain, after))

    def at(self, chain: str, seq: int) -> list[Point]:
        """The points at one place of a chain."""
        return list(self._points(AT, chain, seq))

    def add_pruned(self, chain: str, first: int, last: int) -> None:
        """Keep that the removal of these is on record."""
        self._connection.execute("INSERT OR IGNORE INTO pruned VALUES (?, ?, ?)", (chain, first, last))

    def unrecorded(self) -> list[Point]:
        """The tombstones whose removal isn't on record, unless the record of it may have been removed itself since."""
        return list(self._points(UNRECORDED))

    def clashes(self) -> list[Point]:
        """The checkpoints and anchors at the place of a tombstone that know another hash of it."""
        return list(self._points(CLASHES))

    def last(self, chain: str) -> int:
        """The last place of a chain that a point is known of; 0 where there is none."""
        return int(self._connection.execute("SELECT coalesce(max(seq), 0) FROM points WHERE chain = ?", (chain,)).fetchone()[0])

    def chains(self) -> list[str]:
        """The chains that points are known of."""
        return [chain for (chain,) in self._connection.execute("SELECT DISTINCT chain FROM points ORDER BY chain")]

    def of(self, source: Source) -> Iterator[Point]:
        """All of one source, by chain and place."""
        return self._points(f"{COLUMNS} WHERE source = ? ORDER BY chain, seq", source)

    def close(self) -> None:
        """Let them go."""
        self._connection.close()

    def _points(self, query: str, *parameters: object) -> Iterator[Point]:
        for chain, seq, source, *rest in self._connection.execute(query, parameters):
            yield Point(chain, seq, Source(source), *rest)
