"""Stretches: the beginnings of chains that may be removed, found by recomputing them record by record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from app.audit.chain import ADMINISTRATION, Broken, Head, next_hash
from app.audit.records import Name
from app.audit.sealed import head_of_seal
from app.audit.seals import Trusted
from app.audit.storing import Execute

__all__ = ["Bounds", "Remains", "Stretch", "Survey", "Walk", "bounds_of", "buried"]

PAGE_RECORDS = 250
PAGE = (
    "SELECT seq, number, CASE typeof(body) WHEN 'text' THEN CAST(body AS BLOB) ELSE x'' END, hash "
    "FROM audit_records WHERE chain = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
LAST = "(SELECT max(seq) FROM audit_records WHERE chain = audit_chains.id)"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be removed of a chain at most: records up to the place `limit`, if they are from before `before`."""

    chain: str
    limit: int
    before: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A chain's records after `start` up to `last`, all from before `before`: what one tombstone stands for."""

    start: Head
    last: Head
    before: str

    @property
    def chain(self) -> str:
        """The chain."""
        return self.last.chain

    @property
    def first(self) -> int:
        """The place of its first record."""
        return self.start.seq + 1

    @property
    def count(self) -> int:
        """How many records it has."""
        return self.last.seq - self.start.seq


def bounds_of(execute: Execute, before: datetime) -> list[Bounds]:
    """How far each chain's beginning may be removed at most, where records from before that time are not wanted any more.

    What is still needed stays: the last record of a chain that is written to, the calls in it that have no outcome, and the record whose
    number is the next that its writer will try, since only by finding it taken does the writer notice others.
    """
    needed = _needed_by_writers(execute)
    query = f"SELECT id, closed_at, open_since, {LAST} FROM audit_chains ORDER BY opened_at, id"  # noqa: S608 - a constant
    bounds = []
    for chain, closed_at, open_since, last in execute(query, ()).fetchall():
        if last is not None:
            limit = last if closed_at else last - 1
            if open_since and not closed_at:
                limit = min(limit, _place_before(execute, chain, open_since))
            bounds.append(Bounds(chain, min(limit, needed.get(chain, limit)), before.isoformat(timespec="microseconds")))
    return bounds


def _place_before(execute: Execute, chain: str, number: int) -> int:
    """The place in a chain of its last record before one of all records; 0 where there is none."""
    query = "SELECT seq FROM audit_records WHERE chain = ? AND number < ? ORDER BY seq DESC LIMIT 1"
    found = execute(query, (chain, number)).fetchone()
    return int(found[0]) if found else 0


def _needed_by_writers(execute: Execute) -> dict[str, int]:
    """Of each chain that holds such a record, the last place before it."""
    query = (
        "SELECT next.chain, min(next.seq) - 1 FROM audit_chains "  # noqa: S608 - a constant
        f"JOIN audit_records AS head ON head.chain = audit_chains.id AND head.seq = {LAST} "
        "JOIN audit_records AS next ON next.number = head.number + 1 "
        "WHERE audit_chains.closed_at IS NULL AND audit_chains.id != ? GROUP BY next.chain"
    )
    return dict(execute(query, (ADMINISTRATION,)).fetchall())


def buried(execute: Execute, trusted: Trusted, chain: str) -> Head:
    """The last record of a chain that is removed, or may be: where its last tombstone says that it goes on.

    Raises:
        Broken: the tombstone isn't what the gateway signed.
    """
    query = "SELECT CAST(body AS BLOB), CAST(signature AS BLOB) FROM audit_tombstones WHERE chain = ? ORDER BY seq DESC LIMIT 1"
    found = execute(query, (chain,)).fetchone()
    return head_of_seal(trusted, "tombstone", *found)[0] if found else Head(chain)


class Walk:
    """Follows a chain in pages, recomputing every hash.

    Args:
        start: the head after which it begins.
        limit: the last place that it may reach.
    """

    def __init__(self, start: Head, limit: int) -> None:
        self.head = start
        self._limit = limit

    def page(self, execute: Execute) -> list[tuple[Head, int, bytes]]:
        """The next records: the head that each makes, its number and its body; none at the end.

        Raises:
            Broken: one is missing or isn't what was chained.
        """
        rows = execute(PAGE, (self.head.chain, self.head.seq, self._limit, PAGE_RECORDS)).fetchall()
        return [(self._follow(seq, body, stored), number, body) for seq, number, body, stored in rows]

    def _follow(self, seq: int, body: bytes, stored: bytes) -> Head:
        if seq != self.head.seq + 1:
            message = f"record missing after {self.head.seq}"
            raise Broken(message)
        self.head = Head(self.head.chain, seq, next_hash(self.head.hash, body))
        if stored != self.head.hash:
            message = f"record altered at {seq}, or its hash"
            raise Broken(message)
        return self.head


class Remains:
    """Follows what is left of what a tombstone stands for. The oldest records go first: what is left is whole, and leads to its hash.

    Args:
        upto: the head that the tombstone names.
        trusted: whose tombstones are believed.
    """

    def __init__(self, upto: Head, trusted: Trusted) -> None:
        self._upto = upto
        self._trusted = trusted
        self._walk: Walk | None = None

    def read_on(self, execute: Execute) -> bool:
        """Read a page; gives whether there is more to read.

        Raises:
            Broken: what was read isn't sound.
        """
        walk = self._walk = self._walk or Walk(self._start(execute), self._upto.seq)
        try:
            return self._follow(walk, execute)
        except Broken:
            oldest = self._oldest(execute)
            if oldest is not None and oldest <= walk.head.seq + 1:
                raise
            # Another run has removed meanwhile what was to be read.
            self._walk = None
            return oldest is not None

    def _follow(self, walk: Walk, execute: Execute) -> bool:
        page = walk.page(execute)
        for record in page:
            _members_of(*record)
        if not page and walk.head != self._upto:
            message = f"record missing after {walk.head.seq}, or altered at it"
            raise Broken(message)
        return bool(page)

    def _start(self, execute: Execute) -> Head:
        """What the oldest follows; where nobody knows that any more, the oldest itself."""
        chain, oldest = self._upto.chain, self._oldest(execute)
        if oldest is None:
            return self._upto
        if oldest == 1:
            return Head(chain)
        sealed = "SELECT CAST(body AS BLOB), CAST(signature AS BLOB) FROM audit_tombstones WHERE chain = ? AND seq = ?"
        if found := execute(sealed, (chain, oldest - 1)).fetchone():
            return head_of_seal(self._trusted, "tombstone", *found)[0]
        found = execute("SELECT hash FROM audit_records WHERE chain = ? AND seq = ?", (chain, oldest)).fetchone()
        return Head(chain, oldest, found[0]) if found else self._upto

    def _oldest(self, execute: Execute) -> int | None:
        query = "SELECT min(seq) FROM audit_records WHERE chain = ? AND seq <= ?"
        (found,) = execute(query, (self._upto.chain, self._upto.seq)).fetchone()
        return found if found is None else int(found)


def _require_nothing_before(execute: Execute, chain: str) -> None:
    """What lies before a chain's first place would go unread."""
    (count,) = execute("SELECT count(*) FROM audit_records WHERE chain = ? AND seq < 1", (chain,)).fetchone()
    if count:
        message = f"{count} records stand before the first place"
        raise Broken(message)


def _require_heads(execute: Execute, head: Head, named: list[dict[str, Any]]) -> None:
    """What a chain's first record says of other chains must not go while it contradicts them: it would be the only witness."""
    for one in named:
        if _hash_at(execute, one["chain"], one["seq"]) not in {one["hash"], None}:
            message = f"record {head.seq} names a head of the chain {one['chain']} that isn't there any more"
            raise Broken(message)


def _hash_at(execute: Execute, chain: str, seq: int) -> str | None:
    """The hash of a chain's record, in hex; empty where it is gone without a tombstone, None where it lay within a tombstone's stretch."""
    if found := execute("SELECT hash FROM audit_records WHERE chain = ? AND seq = ?", (chain, seq)).fetchone():
        return bytes(found[0]).hex()
    query = "SELECT seq, json_extract(body, '$.hash') FROM audit_tombstones WHERE chain = ? ORDER BY seq DESC LIMIT 1"
    last, sealed = execute(query, (chain,)).fetchone() or (0, "")
    if last > seq:
        return None
    return str(sealed) if last == seq else ""


def _members_of(head: Head, number: int, body: bytes) -> dict[str, Any]:
    """What a record holds, its number being the one at which it lies.

    Raises:
        Broken: it is no record, or lies elsewhere than it says.
    """
    try:
        members: dict[str, Any] = orjson.loads(body)
        own = members["number"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"record altered at {head.seq}"
        raise Broken(message) from error
    if own != number:
        message = f"record altered at {head.seq}: its number isn't the one that it holds"
        raise Broken(message)
    return members


class Survey:
    """Finds the longest beginning within the bounds that ends in a checkpoint, and whether it is sound.

    Args:
        bounds: what may be removed at most.
        start: where the chain's last tombstone says that it goes on.
        trusted: whose checkpoints are believed.
    """

    def __init__(self, bounds: Bounds, start: Head, trusted: Trusted) -> None:
        self.found: Stretch | None = None
        self._start = start
        self._bounds = bounds
        self._trusted = trusted
        self._walk = Walk(start, bounds.limit)
        self._sealed = start.seq
        self._worthwhile = False

    def read_on(self, execute: Execute) -> bool:
        """Read a page; gives whether there is more to read.

        Raises:
            Broken: what was read isn't sound.
        """
        after = self._walk.head.seq
        if after == self._start.seq:
            _require_nothing_before(execute, self._bounds.chain)
        page = self._walk.page(execute)
        seals = self._seals_between(execute, after, self._walk.head.seq)
        for head, number, body in page:
            if not self._is_old(execute, head, number, body):
                return False
            if head.seq in seals:
                self._pass(head, *seals[head.seq])
        return bool(page)

    def _is_old(self, execute: Execute, head: Head, number: int, body: bytes) -> bool:
        members = _members_of(head, number, body)
        try:
            at, name = str(members["at"]), members["name"]
        except KeyError as error:
            message = f"record altered at {head.seq}"
            raise Broken(message) from error
        if name == Name.CHAIN_OPENED:
            _require_heads(execute, head, members["heads"])
        # A stretch with nothing in it but what earlier pruning left would be replaced by as much.
        self._worthwhile |= name != Name.AUDIT_PRUNED
        return at < self._bounds.before

    def _pass(self, head: Head, body: bytes, signature: bytes) -> None:
        sealed, previous = head_of_seal(self._trusted, "checkpoint", body, signature)
        if sealed != head:
            message = f"the checkpoint at {head.seq} was made of other records"
            raise Broken(message)
        if previous != self._sealed:
            message = f"checkpoint missing between {self._sealed} and {head.seq}"
            raise Broken(message)
        self._sealed = head.seq
        if self._worthwhile:
            self.found = Stretch(self._start, head, self._bounds.before)

    def _seals_between(self, execute: Execute, after: int, last: int) -> dict[int, tuple[bytes, bytes]]:
        query = "SELECT seq, CAST(body AS BLOB), CAST(signature AS BLOB) FROM audit_checkpoints WHERE chain = ? AND seq > ? AND seq <= ?"
        return {seq: (body, signature) for seq, body, signature in execute(query, (self._bounds.chain, after, last)).fetchall()}
