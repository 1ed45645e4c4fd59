"""Records as a test wants them, at the times that it names, chained and stored in a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import link
from app.audit.records import Name, Record
from app.audit.storing import insert_rows, last_number, position_of
from tests.storage.database import by_hand

__all__ = ["BEGINNING", "CHAIN", "DAMAGES", "at", "damaged", "made", "put_away"]

BEGINNING = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHAIN = "019b0000-0000-7000-8000-000000000000"
DAMAGES: dict[str, tuple[bytes, bool]] = {
    "not UTF-8": (b'{"number":%d,"reason":"\xff"}', False),
    "a list": (b"[1]", False),
    "a number": (b"7", False),
    "too large a number": (b'{"number":%d,"ids":[1e400]}', False),
    "too deep": (b'{"number":%d,"deep":' + b"[" * 900 + b"]" * 900 + b"}", False),
    "nothing in it": (b"{}", True),
    "another hash": (b'{"number":%d,"hash":"00"}', True),
    "other kinds of values": (
        b'{"number":%d,"at":3,"name":5,"request_id":null,"ids":7,"linked_ids":{"a":1},"call_ids":[{},null,"x"],"call_id":[1],"count":[],"by":1}',
        True,
    ),
    "other lists": (b'{"number":%d,"call_ids":null,"ids":[1,null,{"a":[2]}],"seq":12345678901234567890}', True),
}
"""What somebody may make of a record's body, and whether that can still be read as a record's."""


def at(seconds: float) -> str:
    """The time so many seconds after the beginning, as records have it."""
    return (BEGINNING + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def made(number: int, name: Name = Name.CALL_OUTCOME, *, seconds: float | None = None, **members: Any) -> Record:
    """A record that was made so many seconds after the beginning, as many as its number if nothing is said."""
    after = number if seconds is None else seconds
    milliseconds = f"{int((BEGINNING.timestamp() + after) * 1_000):012x}"
    record_id = f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-{number:012x}"
    return Record(name, {"id": record_id, "at": at(after), "name": name.value, **members})


def put_away(where: AsyncEngine | Path, records: Sequence[Record]) -> None:
    """Store them, in this order, after what is there."""
    with by_hand(where) as hand:
        execute = hand.execute
        if records:
            insert_rows(hand, link(position_of(execute, CHAIN), records, last_number(execute))[0])


@contextmanager
def damaged(path: Path, number: int, body: bytes) -> Iterator[None]:
    """Meanwhile a record's body is this, where `%d` stands for its number; its hash stays."""
    change = "UPDATE audit_records SET body = CAST(? AS TEXT) WHERE number = ?"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        [before] = connection.execute("SELECT CAST(body AS BLOB) FROM audit_records WHERE number = ?", (number,)).fetchone()
        connection.execute(change, (body.replace(b"%d", str(number).encode()), number))
        try:
            yield
        finally:
            connection.execute(change, (before, number))
