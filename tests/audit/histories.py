"""A record with a history: chains that begin and end, changes, checkpoints and prunes, in a real database, without a server."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from app.audit import Name, Record, Seal, Signer, Trusted
from app.audit.anchors import newest_anchors
from app.audit.chain import ADMINISTRATION, GENESIS, Head, link, next_hash
from app.audit.records import chain_opened
from app.audit.retention import pruned
from app.audit.seals import Archived
from app.audit.storing import heads_of, insert_rows, insert_seals, last_number, open_chain, position_of, sealed_until
from app.audit.stretches import Stretch
from app.audit.verification import Finding, Kind, Verified, verify
from app.domain import new_id, utc_now
from app.storage.embedded import EmbeddedConnection
from app.storage.embedded_scan import scanning
from tests.records import administrative

__all__ = ["History"]

SIGNER = Signer(bytes(range(32)))


class History:
    """A database at `path`, made from one with the newest schema, and what happens in it."""

    def __init__(self, path: Path, schema: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        path.write_bytes(schema.read_bytes())
        self.chain = new_id()

    @contextmanager
    def editing(self) -> Iterator[sqlite3.Connection]:
        """The database, for writing to it past all checks; all of it is in its one file afterwards."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA ignore_check_constraints=ON")
            yield connection

    def append(self, count: int = 1) -> None:
        """The process that runs writes records."""
        with self.editing() as connection:
            records = [self._outcome(number) for number in range(count)]
            self._write(connection, self.chain, records)

    def administer(self) -> None:
        """Somebody changes something."""
        with self.editing() as connection:
            self._write(connection, ADMINISTRATION, [administrative(Name.TOKEN_ENABLED, "test", "shop")])
            self._seal(connection, ADMINISTRATION)

    def checkpoint(self) -> None:
        """The process that runs seals its chain."""
        with self.editing() as connection:
            self._seal(connection, self.chain)

    def restart(self) -> None:
        """The process ends properly, and another begins."""
        with self.editing() as connection:
            self._seal(connection, self.chain)
            connection.execute("UPDATE audit_chains SET closed_at = ? WHERE id = ?", (utc_now(), self.chain))
        self.chain = new_id()

    def prune(self, chain: str | None = None, *, archive: Path | None = None) -> int:
        """Remove the longest beginning of a chain that ends in a checkpoint before its last record; gives up to which place."""
        chain = chain or self.chain
        with self.editing() as connection:
            query = "SELECT max(seq) FROM audit_checkpoints WHERE chain = ? AND seq < (SELECT max(seq) FROM audit_records WHERE chain = ?)"
            (upto,) = connection.execute(query, (chain, chain)).fetchone()
            (before,) = connection.execute("SELECT coalesce(max(seq), 0) FROM audit_tombstones WHERE chain = ?", (chain,)).fetchone()
            if upto and upto > before:
                told = self._bury(connection, chain, before + 1, upto, archive)
                self._write(connection, ADMINISTRATION, [told])
                self._seal(connection, ADMINISTRATION)
            return int(upto or 0)

    def records(self, chain: str | None = None) -> list[dict[str, Any]]:
        """Number, body, hash, seq, chain and ID of the records, of one chain or of all."""
        with self.editing() as connection:
            connection.row_factory = sqlite3.Row
            query = "SELECT number, body, hash, seq, chain, id FROM audit_records WHERE ? IS NULL OR chain = ? ORDER BY number"
            return [dict(row) for row in connection.execute(query, (chain, chain))]

    def sealed(self, chain: str) -> int:
        """The place of a chain's last checkpoint."""
        with self.editing() as connection:
            return sealed_until(connection.execute, chain)

    def verified(self, *, anchors: list[Seal] | None = None, archive: Path | None = None, trusted: Trusted | None = None) -> Verified:
        """Verify it."""
        with scanning(self.path) as scan:
            return verify(scan, trusted or Trusted(SIGNER.public), anchors=enumerate(anchors or ()), archive=archive)

    def wrong(self, **how: Any) -> list[Finding]:
        """What a verification finds, but for notes."""
        verified = self.verified(**how)
        found = [one for one in verified.findings if not one.kind.is_note]
        assert verified.findings.failures == len(found)
        return found

    def anchors(self) -> list[Seal]:
        """The newest checkpoints."""
        with scanning(self.path) as scan:
            return newest_anchors(scan.seals("audit_checkpoints"), Trusted(SIGNER.public)).seals

    def rewrite(self, old: bytes, new: bytes) -> None:
        """Exchange bytes in the file, past SQLite: they stand there once."""
        with self.editing() as connection:
            # Without it, what lies in unused parts of pages might be mistaken for the record.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        held = self.path.read_bytes()
        assert held.count(old) == 1
        assert len(old) == len(new)
        self.path.write_bytes(held.replace(old, new))

    def loosen(self) -> None:
        """Make the records' table anew, without a constraint, an index or a trigger."""
        with self.editing() as connection:
            connection.execute("CREATE TABLE bare (number INTEGER PRIMARY KEY, body TEXT, hash BLOB)")
            connection.execute("INSERT INTO bare SELECT number, body, hash FROM audit_records")
            connection.execute("DROP TABLE audit_records")
            connection.execute("ALTER TABLE bare RENAME TO audit_records")

    def _outcome(self, number: int) -> Record:
        ids = [str(number), "7"]
        return Record(Name.CALL_OUTCOME, {"id": new_id(), "at": utc_now(), "name": Name.CALL_OUTCOME, "ids": ids, "linked_ids": ids[:1]})

    def _write(self, connection: sqlite3.Connection, chain: str, records: list[Record]) -> None:
        head = position_of(connection.execute, chain)
        if not head.seq:
            records = [chain_opened(heads_of(connection.execute)), *records]
            open_chain(connection.execute, chain, None)
        rows, _ = link(head, records, last_number(connection.execute))
        insert_rows(EmbeddedConnection(connection), rows)

    def _seal(self, connection: sqlite3.Connection, chain: str) -> None:
        head, sealed = position_of(connection.execute, chain), sealed_until(connection.execute, chain)
        if head.seq > sealed:
            insert_seals(connection.execute, [SIGNER.checkpoint(head, sealed)])

    def _bury(self, connection: sqlite3.Connection, chain: str, first: int, upto: int, archive: Path | None) -> Record:
        query = "SELECT number, body, hash FROM audit_records WHERE chain = ? AND seq <= ? ORDER BY seq"
        gone = connection.execute(query, (chain, upto)).fetchall()
        archived = _archive(archive, f"{chain}-{first}-{upto}.jsonl.gz", [body for _, body, _ in gone]) if archive else None
        stretch = Stretch(Head(chain, first - 1), Head(chain, upto, gone[-1][2]), utc_now())
        stone = SIGNER.tombstone(stretch.last, first=first, before=stretch.before, archived=archived)
        connection.execute("INSERT INTO audit_tombstones (body, signature) VALUES (?, ?)", (stone.body, stone.signature))
        for number, _, _ in gone:
            connection.execute("DELETE FROM audit_records WHERE number = ?", (number,))
            connection.execute("DELETE FROM audit_ids WHERE number = ?", (number,))
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ? AND seq < ?", (chain, upto))
        return pruned("test", stretch, archived)


def _archive(folder: Path, file: str, bodies: list[str]) -> Archived:
    with gzip.open(folder / file, "wb") as lines:
        lines.writelines(body.encode() + b"\n" for body in bodies)
    return Archived(file, hashlib.sha256((folder / file).read_bytes()).hexdigest())


def rehash(history: History, chain: str, seq: int, old: str, new: str) -> None:
    """Alter a record and hash it and all that follow in its chain anew, as a thorough forger would."""
    head = GENESIS
    with history.editing() as connection:
        for row in history.records(chain):
            body = row["body"].replace(old, new) if row["seq"] == seq else row["body"]
            head = next_hash(head, body.encode())
            connection.execute("UPDATE audit_records SET body = ?, hash = ? WHERE number = ?", (body, head, row["number"]))


def places(found: list[Finding]) -> list[tuple[Kind, str | None, int | None, int | None]]:
    """Kind, chain, place and number of each finding."""
    return [(one.kind, one.chain, one.seq, one.number) for one in found]


def flipped(text: bytes, place: int) -> bytes:
    """The bytes with one changed."""
    place %= len(text)
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
