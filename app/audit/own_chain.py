"""The process's own chain, as it is continued in the database: every group of records is chained, stored and, when it is due, sealed.

All of it is work for the one thread that holds the connection; the connection commits by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from app.audit.chain import Broken, Head, Row, follow, link
from app.audit.leases import give_up_lease, is_closed, lease_end, renew_lease
from app.audit.records import Record, chain_opened
from app.audit.seals import Seal, Signer, Trusted
from app.audit.storing import (
    Condition,
    ConditionFailed,
    Execute,
    heads_of,
    insert_rows,
    insert_seals,
    known_ids,
    last_number,
    open_chain,
    position_of,
    records_from,
    sealed_until,
    transaction,
)
from app.audit.unfinished import Unfinished
from app.domain import new_id
from app.storage import Connection, Dialect, StorageError, Taken

__all__ = ["OwnChain", "Written"]

CHECKPOINT_RECORDS = 1_000
CONTESTED_APPENDS = 50

Written = tuple[list[Row], list[Seal]]
"""What has become durable."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Position:
    """Where the chain stands in the database; `sealed` is the `seq` of its last checkpoint."""

    head: Head
    number: int
    sealed: int


class OwnChain:
    """The chain of this process. It begins with the first record that there is to write.

    What it wrote itself it knows: it goes on from there, and seals that, whatever lies in the database. Where it has to look, since it
    isn't known whether something was written, it takes only what it tried to write. If there is anything else the chain is given up,
    unsealed, and another begins. So it does where another process took this one for dead and has closed the chain: nothing is written to
    a closed chain, whose end is sealed.

    Args:
        signer: signs the checkpoints.

    `losses`: how often another process had ended the chain.
    """

    def __init__(self, signer: Signer) -> None:
        self.id = new_id()
        self._signer = signer
        self.trusted = Trusted(signer.public)
        self._position: _Position | None = None
        self._known = Head(self.id)
        self._doubtful: set[str] = set()
        self._leases: set[str] = set()
        self._unfinished = Unfinished()
        self._contested = 0
        self.losses = 0

    def append(self, connection: Connection, records: Sequence[Record], condition: Condition | None = None) -> Written | None:
        """Commit these records, each once, if the condition holds, in one transaction with what it writes; None where it doesn't.

        Raises:
            StorageError: they are not there, or that isn't known; the next attempt finds out.
        """
        with suppress(ConditionFailed):
            return self._append(connection, records, condition)
        return None

    def seal(self, connection: Connection) -> Written:
        """Fix the chain's head by a checkpoint, if none does yet."""
        try:
            return [], self._seal(connection)
        except Broken as error:
            self._accuse(error)
            return [], []

    def seal_other(self, connection: Connection, condition: Condition, head: Head | None) -> Written | None:
        """Fix another chain's head if the condition holds, in one transaction with what it writes; None where not, or it has grown."""
        with suppress(ConditionFailed), transaction(connection, condition):
            return [], self._seal_other(connection.execute, head) if head else []
        return None

    def renew_lease(self, connection: Connection) -> None:
        """The process lives. Where another took it for dead, and ends its chain or has, it goes on in a new one."""
        next_number = self._position.number + 1 if self._position else None
        lease = self._next_lease(connection)
        if renew_lease(connection, self.id, lease, held=self._leases, open_since=self._unfinished.first(next_number)):
            self._leases = {lease}
        elif self._known.seq:
            self._lose()

    def close(self, connection: Connection) -> None:
        """The process ends; another may see to what has no outcome."""
        give_up_lease(connection, self.id, self._unfinished.first(None))

    def begin_anew(self, connection: Connection) -> Written:
        """Where intents have no outcome here, seal and close this chain, and go on in a new one."""
        if not len(self._unfinished):
            return [], []
        sealed = self.seal(connection)
        self.close(connection)
        self._rename()
        self._unfinished = Unfinished()
        return sealed

    def _next_lease(self, connection: Connection) -> str:
        """The lease that is written next. It is the process's own from then on, also where nobody hears whether it came to be written."""
        lease = lease_end(connection)
        self._leases.add(lease)
        return lease

    def _lose(self) -> None:
        log.warning("another process ended this one's audit chain; it goes on in a new one", chain=self.id)
        self.losses += 1
        self._rename()
        self._unfinished = Unfinished()

    def _rename(self) -> None:
        self.id, self._position = new_id(), None
        self._known, self._doubtful, self._leases = Head(self.id), set(), set()

    def _append(self, connection: Connection, records: Sequence[Record], condition: Condition | None) -> Written:
        try:
            if self._position and self._contested:
                return self._append_next(connection, self._position, records, condition)
            if self._position:
                return self._append_at(connection, self._position, records, condition)
        except Taken:
            # Another process took the next places: a replica, or a command, say, that changed a token. Or it ended this chain.
            self._position = None
            self._contested = CONTESTED_APPENDS if connection.dialect is Dialect.POSTGRESQL else 0
        except StorageError:
            self._position = None
            self._doubtful.update(record.id for record in records)
            raise
        return self._append_anew(connection, records, condition)

    def _append_at(self, connection: Connection, position: _Position, records: Sequence[Record], condition: Condition | None) -> Written:
        rows, seals, reached = self._chained(position, records)
        if seals or condition:
            with transaction(connection, condition):
                insert_rows(connection, rows, unless_closed=self.id)
                insert_seals(connection.execute, seals)
        else:
            insert_rows(connection, rows, unless_closed=self.id)
        self._note(reached, rows, records)
        return rows, seals

    def _append_next(self, connection: Connection, position: _Position, records: Sequence[Record], condition: Condition | None) -> Written:
        """Where others take places all the time: the next one is read under the lock, which costs less than to lose it again."""
        self._contested -= 1
        with transaction(connection, condition):
            position = _Position(position.head, last_number(connection.execute), position.sealed)
            rows, seals, reached = self._chained(position, records)
            insert_rows(connection, rows, unless_closed=self.id)
            insert_seals(connection.execute, seals)
        self._note(reached, rows, records)
        return rows, seals

    def _append_anew(self, connection: Connection, records: Sequence[Record], condition: Condition | None) -> Written:
        """Where the place isn't known: it is read under the write lock, so that nobody takes it meanwhile."""
        execute = connection.execute
        with transaction(connection, condition):
            there = known_ids(execute, [record.id for record in records])
            new, position = [record for record in records if record.id not in there], self._found(connection)
            if not position.head.seq:
                new = [chain_opened(heads_of(execute)), *new]
                open_chain(execute, self.id, self._next_lease(connection), position.number + 1)
            rows, seals, reached = self._chained(position, new)
            self._doubtful.update(record.id for record in new)
            insert_rows(connection, rows, unless_closed=self.id)
            insert_seals(execute, seals)
        for record in records:
            if record.id in there:
                self._unfinished.see(there[record.id], record.members)
        self._note(reached, rows, new)
        return rows, seals

    def _chained(self, position: _Position, records: Sequence[Record]) -> tuple[list[Row], list[Seal], _Position]:
        """The records' rows, the checkpoints that fall due among them, and where the chain stands then."""
        rows, head = link(position.head, records, position.number)
        seals, sealed = self._due(position, rows)
        return rows, seals, _Position(head, position.number + len(rows), sealed)

    def _note(self, reached: _Position, rows: Sequence[Row], records: Sequence[Record]) -> None:
        self._position, self._known = reached, reached.head
        self._doubtful.clear()
        for row, record in zip(rows, records, strict=True):
            self._unfinished.see(row.number, record.members)

    def _found(self, connection: Connection) -> _Position:
        """Where the chain stands, as far as it is this process's own work; where there is more, or it is closed, another's beginning."""
        if is_closed(connection.execute, self.id):
            self._lose()
        try:
            return self._read(connection.execute)
        except Broken as error:
            self._accuse(error)
            give_up_lease(connection, self.id, None)
            self._rename()
            return self._read(connection.execute)

    def _accuse(self, error: Broken) -> None:
        log.error("somebody else changed this process's audit chain; what isn't sealed of it stays so", chain=self.id, why=str(error))

    def _read(self, execute: Execute) -> _Position:
        """Where the chain stands.

        Raises:
            Broken: what lies there isn't what this process wrote, or tried to write.
        """
        head = follow(self._known, records_from(execute, self._known), only=self._doubtful)
        return _Position(head, last_number(execute), sealed_until(execute, self.id))

    def _due(self, position: _Position, rows: Sequence[Row]) -> tuple[list[Seal], int]:
        """The checkpoints that fall due among the rows, and the `seq` of the last there is then."""
        seals, sealed = [], position.sealed
        reached = position.head.seq + len(rows)
        while reached - sealed >= CHECKPOINT_RECORDS:
            due = max(sealed + CHECKPOINT_RECORDS, position.head.seq + 1)
            seals.append(self._signer.checkpoint(Head(self.id, due, rows[due - position.head.seq - 1].hash), sealed))
            sealed = due
        return seals, sealed

    def _seal(self, connection: Connection) -> list[Seal]:
        try:
            return self._seal_at(connection, self._position or self._read(connection.execute))
        except Taken:
            # Another process took this one for dead, and has sealed what it wrote.
            self._position = None
            return self._seal_at(connection, self._read(connection.execute))

    def _seal_at(self, connection: Connection, position: _Position) -> list[Seal]:
        if position.head.seq <= position.sealed:
            return []
        seal = self._signer.checkpoint(position.head, position.sealed)
        with transaction(connection):
            insert_seals(connection.execute, [seal])
        self._position, self._known = _Position(position.head, position.number, position.head.seq), position.head
        return [seal]

    def _seal_other(self, execute: Execute, head: Head) -> list[Seal]:
        if position_of(execute, head.chain).seq > head.seq:
            raise ConditionFailed
        sealed = sealed_until(execute, head.chain)
        if head.seq <= sealed:
            return []
        seals = [self._signer.checkpoint(head, sealed)]
        insert_seals(execute, seals)
        return seals
