"""The chain: every record holds its place, and a hash over itself and all before it."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from app.audit.canonical import canonical
from app.audit.records import ChainHead, Record

__all__ = ["ADMINISTRATION", "GENESIS", "Broken", "Head", "Row", "follow", "link", "next_hash"]

GENESIS = bytes(32)
"""What stands for the hash before a chain's first record."""

ADMINISTRATION = "administration"
"""The chain of administrative changes; all others have the ID of the process that writes them."""


class Broken(Exception):
    """A chain isn't what its hashes, checkpoints and tombstones say; the message says where."""


class Row(NamedTuple):
    """A record as it is stored: its place among all, its canonical JSON, and its hash."""

    number: int
    body: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: its last record's place in it (0: none yet), and hash."""

    chain: str
    seq: int = 0
    hash: bytes = GENESIS

    def members(self) -> ChainHead:
        """As it stands in records and checkpoints."""
        return {"chain": self.chain, "seq": self.seq, "hash": self.hash.hex()}


def next_hash(previous: bytes, body: bytes) -> bytes:
    """`sha256(previous ‖ canonical JSON)`."""
    return hashlib.sha256(previous + body).digest()


def link(head: Head, records: Sequence[Record], number: int) -> tuple[list[Row], Head]:
    """Chain records to a head.

    Args:
        head: where their chain stands.
        records: what comes next in it.
        number: the last place that is taken among all records.
    """
    rows, last, chain = [], head.hash, head.chain
    for place, record in enumerate(records, start=1):
        body = canonical({**record.members, "chain": chain, "seq": head.seq + place, "number": number + place})
        last = next_hash(last, body)
        rows.append(Row(number + place, body.decode(), last))
    return rows, Head(chain, head.seq + len(rows), last)


def follow(known: Head, rows: Iterable[tuple[int, bytes, bytes]], *, only: Container[str] | None = None) -> Head:
    """Where a chain stands whose head is known, by what is stored from there on.

    Args:
        known: a head that is certain.
        rows: `seq`, body and hash of each record from the known one on, in their order.
        only: the IDs of the records that may follow; None: any.

    Raises:
        Broken: the known record isn't there, or what follows doesn't follow from it, or mustn't be there.
    """
    head, seen = known, not known.seq
    for seq, body, stored in rows:
        if seq == known.seq:
            if stored != known.hash:
                message = f"record {seq} isn't the record that was written"
                raise Broken(message)
            seen = True
        elif not seen or seq != head.seq + 1 or stored != next_hash(head.hash, body):
            message = f"record {seq} doesn't follow from the one before"
            raise Broken(message)
        elif only is not None and _id_of(body) not in only:
            message = f"record {seq} isn't this process's own"
            raise Broken(message)
        else:
            head = Head(known.chain, seq, stored)
    if not seen:
        message = f"record {known.seq} is gone"
        raise Broken(message)
    return head


def _id_of(body: bytes) -> object:
    return orjson.loads(body).get("id")
