"""Records as a test wants them, at the times that it names, chained and stored in a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.audit.chain import link
from app.audit.records import Name, Record
from app.audit.storing import Execute, insert_rows, last_number, position_of

__all__ = ["BEGINNING", "CHAIN", "at", "made", "put_away"]

BEGINNING = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHAIN = "019b0000-0000-7000-8000-000000000000"


def at(seconds: float) -> str:
    """The time so many seconds after the beginning, as records have it."""
    return (BEGINNING + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def made(number: int, name: Name = Name.CALL_OUTCOME, *, seconds: float | None = None, **members: Any) -> Record:
    """A record that was made so many seconds after the beginning, as many as its number if nothing is said."""
    after = number if seconds is None else seconds
    milliseconds = f"{int((BEGINNING.timestamp() + after) * 1_000):012x}"
    record_id = f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-{number:012x}"
    return Record(name, {"id": record_id, "at": at(after), "name": name.value, **members})


def put_away(path: Path, records: Sequence[Record]) -> None:
    """Store them, in this order, after what is there."""
    connection = sqlite3.connect(path, isolation_level=None)
    execute: Execute = connection.execute
    if records:
        insert_rows(execute, link(position_of(execute, CHAIN), records, last_number(execute))[0])
    connection.close()
