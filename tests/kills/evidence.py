"""What the database says after the kills, held against what the simulator and the clients say."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.audit.chain import GENESIS, next_hash
from app.audit.seals import Trusted
from tests.kills.load import Told

UNRECORDED = "audit-unavailable"

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Evidence:
    """All that is on record, in the order in which it was written."""

    records: Records

    def of(self, name: str) -> Records:
        """Those of a name."""
        return [one for one in self.records if one["name"] == name]

    def unannounced(self, targets: dict[str, list[str]]) -> Counter[tuple[str, str]]:
        """Arrivals at the simulator, by token and IDs, for which no `send:intent` is on record."""
        arrived = Counter(
            (token, parse_qs(urlsplit(one).query)["orderIds"][0]) for token, all_of_it in targets.items() for one in all_of_it
        )
        return arrived - Counter((one["token"], ",".join(one["ids"])) for one in self.of("send:intent"))

    def untold(self, told: Iterable[Told]) -> list[Told]:
        """Answers that the record doesn't have, or has otherwise: an outcome of that code and result, or a refusal of that code."""
        ends = {one["request_id"]: one for name in ("call:refused", "call:outcome") for one in self.of(name)}
        return [one for one in told if one.code != UNRECORDED and not _agrees(one, ends.get(one.request_id))]

    def without_one_outcome(self, what: str) -> dict[str, int]:
        """Calls, or sends, that were announced and have no outcome, or several; how many."""
        outcomes = Counter(one[f"{what}_id"] for one in self.of(f"{what}:outcome"))
        announced = [one[f"{what}_id"] for one in self.of(f"{what}:intent")]
        return {one: outcomes[one] for one in announced if outcomes[one] != 1}

    def recovered(self) -> Counter[str]:
        """How many calls and sends were ended by another process, by what it made of them."""
        ends = (one for name in ("call:outcome", "send:outcome") for one in self.of(name) if "process" in one)
        return Counter(f"{one['name']} {one.get('code') or one['result']}" for one in ends)


def _agrees(told: Told, end: dict[str, Any] | None) -> bool:
    if end is None or end["code"] != told.code:
        return False
    return told.code != "ok" or end["linked_ids"] == list(map(str, told.result))


def chained(database: Path, trusted: Trusted) -> Evidence:
    """Everything on record, once every hash was computed again and every checkpoint held against it.

    Raises:
        AssertionError: the chains don't hold.
    """
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("BEGIN")
        rows = connection.execute("SELECT number, body, hash FROM audit_records ORDER BY number").fetchall()
        seals = connection.execute("SELECT body, signature FROM audit_checkpoints").fetchall()
        closed = [chain for (chain,) in connection.execute("SELECT id FROM audit_chains WHERE closed_at IS NOT NULL")]
    hashes: dict[tuple[str, int], bytes] = {}
    heads: Counter[str] = Counter()
    records = []
    for number, (stored, body, hashed) in enumerate(rows, start=1):
        members = json.loads(body)
        chain, seq = members["chain"], members["seq"]
        assert (stored, members["number"], seq) == (number, number, heads[chain] + 1)
        assert hashed == next_hash(hashes.get((chain, seq - 1), GENESIS), body.encode())
        hashes[chain, seq], heads[chain] = hashed, seq
        records.append(members)
    _check_seals(seals, hashes, trusted)
    ends = {(chain, heads[chain]) for chain in closed}
    assert ends <= {(seal["chain"], seal["seq"]) for seal in (json.loads(body) for body, _ in seals)}
    return Evidence(records)


def _check_seals(seals: list[tuple[str, bytes]], hashes: dict[tuple[str, int], bytes], trusted: Trusted) -> None:
    for body, signature in seals:
        members: dict[str, Any] = trusted.check(body.encode(), signature)
        assert hashes[members["chain"], members["seq"]].hex() == members["hash"]


def still_open(database: Path) -> list[str]:
    """The chains of processes that aren't closed."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT id FROM audit_chains WHERE closed_at IS NULL AND lease_until IS NOT NULL"
        return [chain for (chain,) in connection.execute(query)]


def records_to_next_checkpoint(database: Path) -> int:
    """How many records are missing until the chain that was begun last gets its next regular checkpoint."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT coalesce(max(seq), 0) FROM {} WHERE chain = (SELECT max(id) FROM audit_chains WHERE id <> 'administration')"
        reached, sealed = (connection.execute(query.format(table)).fetchone()[0] for table in ("audit_records", "audit_checkpoints"))
    return 1_000 - int(reached) + int(sealed)
