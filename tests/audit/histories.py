"""A record with a history: chains that begin and end, changes, checkpoints and prunes, in a real database, without a server."""

from __future__ import annotations

import gzip
import hashlib
from contextlib import AbstractContextManager
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
from app.storage import Connection
from tests.audit.altering import Altered
from tests.records import administrative

__all__ = ["History"]

COLUMNS = ("number", "body", "hash", "seq", "chain", "id")
SIGNER = Signer(bytes(range(32)))


class History:
    """What happens in a database that is empty at first."""

    def __init__(self, database: Altered) -> None:
        self.database = database
        self.chain = new_id()

    def editing(self) -> AbstractContextManager[Connection]:
        """The database, for writing to it past all checks."""
        return self.database.editing()

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
            query = f"SELECT {', '.join(COLUMNS)} FROM audit_records ORDER BY number"  # noqa: S608 - constants
            found = [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(query)]
        return [one for one in found if chain in {None, one["chain"]}]

    def sealed(self, chain: str) -> int:
        """The place of a chain's last checkpoint."""
        with self.editing() as connection:
            return sealed_until(connection.execute, chain)

    def verified(self, *, anchors: list[Seal] | None = None, archive: Path | None = None, trusted: Trusted | None = None) -> Verified:
        """Verify it."""
        with self.database.scanning() as scan:
            return verify(scan, trusted or Trusted(SIGNER.public), anchors=enumerate(anchors or ()), archive=archive)

    def wrong(self, **how: Any) -> list[Finding]:
        """What a verification finds, but for notes."""
        verified = self.verified(**how)
        found = [one for one in verified.findings if not one.kind.is_note]
        assert verified.findings.failures == len(found)
        return found

    def anchors(self) -> list[Seal]:
        """The newest checkpoints."""
        with self.database.scanning() as scan:
            return newest_anchors(scan.seals("audit_checkpoints"), Trusted(SIGNER.public)).seals

    def rewrite(self, old: bytes, new: bytes) -> None:
        """Exchange what stands there once."""
        self.database.rewrite(old, new)

    def loosen(self) -> None:
        """Leave the records' table without a constraint, an index or a trigger."""
        self.database.loosen()

    def _outcome(self, number: int) -> Record:
        ids = [str(number), "7"]
        return Record(Name.CALL_OUTCOME, {"id": new_id(), "at": utc_now(), "name": Name.CALL_OUTCOME, "ids": ids, "linked_ids": ids[:1]})

    def _write(self, connection: Connection, chain: str, records: list[Record]) -> None:
        head = position_of(connection.execute, chain)
        if not head.seq:
            records = [chain_opened(heads_of(connection.execute)), *records]
            open_chain(connection.execute, chain, None)
        rows, _ = link(head, records, last_number(connection.execute))
        insert_rows(connection, rows)

    def _seal(self, connection: Connection, chain: str) -> None:
        head, sealed = position_of(connection.execute, chain), sealed_until(connection.execute, chain)
        if head.seq > sealed:
            insert_seals(connection.execute, [SIGNER.checkpoint(head, sealed)])

    def _bury(self, connection: Connection, chain: str, first: int, upto: int, archive: Path | None) -> Record:
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
