"""A database with a past: records of any age, and a check that all that is left is proven."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Name, Record, Signer, Trusted
from app.audit.chain import GENESIS, next_hash
from app.domain import new_id
from app.opening import open_state
from app.recording import record_changes
from app.retention import Pruning, Retention, open_retention
from app.storage import DatabaseThread, Dialect, writing
from app.vault import CHECKPOINT_SIGNING, Keyring, own_key
from tests.records import administrative
from tests.rig import settings_for
from tests.storage.database import Hand, by_hand

BY = "test:past"
UNCHECKED = {
    Dialect.SQLITE: "PRAGMA ignore_check_constraints = ON",
    Dialect.POSTGRESQL: "ALTER TABLE audit_records DROP CONSTRAINT IF EXISTS ck_audit_records_number",
}
LISTS = ("ids", "linked_ids", "call_ids")
BEGUN_OR_ENDED = (("call_id", "call:intent"), ("call_id", "call:outcome"), ("send_id", "send:intent"))


def ago(days: float) -> datetime:
    """The moment so many days ago."""
    return datetime.now(UTC) - timedelta(days=days)


@contextmanager
def days_ago(days: float) -> Iterator[None]:
    """Records that are made meanwhile are so old."""
    back = int(days * 86_400_000_000_000)
    with patch("app.audit.records.record.time", SimpleNamespace(time_ns=lambda: time.time_ns() - back)):
        yield


def call(*ids: str) -> Record:
    """The record of a call for these orders."""
    return administrative(Name.CALL_OUTCOME, BY, "shop", call_id=new_id(), ids=list(ids), linked_ids=list(ids[:1]))


@dataclass
class Kept:
    """Hears what became durable: every body, by its chain."""

    bodies: dict[str, list[str]] = field(default_factory=dict)

    def appended(self, rows: Any) -> None:
        """Keep the bodies."""
        for row in rows:
            self.bodies.setdefault(json.loads(row.body)["chain"], []).append(row.body)

    def sealed(self, seals: Any) -> None:
        """Checkpoints are of no interest."""


@dataclass
class Past:
    """An open state."""

    folder: Path
    engine: AsyncEngine
    keyring: Keyring
    signer: Signer

    @property
    def database(self) -> Path:
        """The database's file."""
        return self.folder / "gateway.db"

    @asynccontextmanager
    async def ledger(self, *listeners: Kept) -> AsyncIterator[Ledger]:
        """A process's chain, which ends with the context but for what the test closes; as after a crash, it isn't closed."""
        thread = DatabaseThread(self.engine)
        try:
            yield Ledger(thread, self.signer, listeners)
        finally:
            await thread.aclose()

    async def write(self, days: float, *, records: int = 10, checkpoints: int = 1, closed: bool = True) -> str:
        """Write a chain as it was so many days ago: a checkpoint after every `records` records; gives the chain's ID."""
        async with self.ledger() as ledger:
            with days_ago(days):
                for part in range(checkpoints):
                    await ledger.append([call(str(part), str(number)) for number in range(records)])
                    await ledger.checkpoint()
            if closed:
                await ledger.aclose()
            return ledger.chain

    async def change(self, days: float, subject: str = "shop") -> None:
        """Put a change on record as it was so many days ago."""
        with days_ago(days):
            async with writing(self.engine) as connection:
                await record_changes(connection, self.keyring, [administrative(Name.TOKEN_CHANGED, BY, subject)])

    @asynccontextmanager
    async def retention(self, archive: Path | None = None) -> AsyncIterator[Retention]:
        """What removes."""
        async with open_retention(self.engine, self.keyring, BY, archive) as retention:
            yield retention

    async def prune(self, days: float, archive: Path | None = None) -> Pruning:
        """Remove what is older than so many days."""
        async with self.retention(archive) as retention:
            return await retention.prune(await retention.plan(ago(days)))

    async def all(self, query: str) -> list[Any]:
        """What a query finds: the values of its first column."""
        with by_hand(self.engine) as hand:
            return [row[0] for row in hand.execute(query)]

    def edit(self, statement: str, *parameters: Any) -> None:
        """Change the database by hand, whatever its constraints say."""
        with by_hand(self.engine) as hand:
            hand.execute(UNCHECKED[hand.dialect])
            hand.execute(statement, parameters)

    def assert_proven(self) -> None:
        """Everything that is left follows from tombstones and checkpoints, and nothing is there that a tombstone stands for."""
        assert_proven(self.engine, Trusted(self.signer.public))


@asynccontextmanager
async def past(folder: Path, database: str = "") -> AsyncIterator[Past]:
    """Open a state folder, with its own database or that at an address."""
    async with open_state(settings_for(folder, database_url=database)) as (engine, keyring):
        async with writing(engine) as connection:
            signer = Signer(await own_key(connection, keyring, CHECKPOINT_SIGNING))
        yield Past(folder, engine, keyring, signer)


def assert_proven(engine: AsyncEngine, trusted: Trusted) -> None:
    """Recompute every chain from its last tombstone on, and find it sealed as it should be."""
    with by_hand(engine) as connection:
        chains = [chain for (chain,) in connection.execute("SELECT id FROM audit_chains")]
        for chain in chains:
            _assert_chain(connection, chain, trusted)
        lists = " UNION ".join(f"SELECT value, number FROM audit_records, json_each(body, '$.{name}')" for name in LISTS)  # noqa: S608 - ours
        own = "SELECT json_extract(body, '$.{}'), number FROM audit_records WHERE name = '{}'"
        begun = " UNION ".join(own.format(*one) for one in BEGUN_OR_ENDED)
        expected = connection.execute(f"{lists} UNION {begun} ORDER BY 1, 2").fetchall()

        assert connection.execute("SELECT value, number FROM audit_ids ORDER BY 1, 2").fetchall() == expected


def _assert_chain(connection: Hand, chain: str, trusted: Trusted) -> None:
    last, head = 0, GENESIS
    for members in _seals(connection, "audit_tombstones", chain, trusted):
        assert (members["kind"], members["first"]) == ("tombstone", last + 1)

        last, head = members["seq"], bytes.fromhex(members["hash"])
    hashes, sealed, buried = {last: head}, last, last
    for body, stored in connection.execute("SELECT body, hash FROM audit_records WHERE chain = ? ORDER BY seq", (chain,)):
        last, head = last + 1, next_hash(head, body.encode())
        hashes[last] = head

        assert (json.loads(body)["seq"], stored) == (last, head)
    for number, members in enumerate(_seals(connection, "audit_checkpoints", chain, trusted)):
        assert hashes[members["seq"]].hex() == members["hash"]
        assert members["previous"] == sealed or (number == 0 and members["seq"] == buried)

        sealed = members["seq"]


def _seals(connection: Hand, table: str, chain: str, trusted: Trusted) -> list[dict[str, Any]]:
    rows = connection.execute(f"SELECT body, signature FROM {table} WHERE chain = ? ORDER BY seq", (chain,))  # noqa: S608 - ours
    return [trusted.check(body.encode(), signature) for body, signature in rows]


def archived(folder: Path) -> dict[str, list[str]]:
    """The bodies in an archive's files, by their names."""
    return {path.name: gzip.decompress(path.read_bytes()).decode().splitlines() for path in sorted(folder.glob("*.jsonl.gz"))}


def sha256(path: Path) -> str:
    """A file's SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listed(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())
