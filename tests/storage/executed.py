"""Statements as the code of one schema executes them: noted while it runs, kept in a file, and executed again on another schema.

A statement is kept once, whatever its values and however many rows or alternatives it lists. Values are examples, levelled: IDs, times,
hashes and bytes of one length are the same in each run, and nothing of the machine that ran it is in them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from sqlalchemy import Connection, Engine, event

from app.storage import Dialect, Rows
from app.storage.embedded import EmbeddedConnection
from app.storage.embedded_scan import EmbeddedScan
from app.storage.postgresql import PostgresConnection, in_postgresql

__all__ = ["KEPT", "Statement", "Statements", "kept", "noting"]

KEPT = Path(__file__).parent / "statements"
"""A file for each schema, by its newest migration."""

NOT_OURS = re.compile(
    r"BEGIN|COMMIT|ROLLBACK|PRAGMA|CREATE|ALTER|DROP|SAVEPOINT|RELEASE|.*(alembic_version|sqlite_|pg_catalog|information_schema)"
)
"""What begins and ends transactions, and what makes and asks for the schema itself."""

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")
HASH = re.compile(r"\b[0-9a-f]{64}\b")
MACHINES = (
    (re.compile(r'"(host|address|credential_id|key_id|fingerprint)":"[^"]*"'), r'"\1":"levelled"'),
    (re.compile(r'"(process|queue_ms|upstream_ms)":[\d.]+'), r'"\1":1'),
)
"""Members of records that differ from machine to machine, and from run to run."""

ROWS = re.compile(r"(\(\?(?:, ?\?)*\))(?:,\s*\1)+")
CHOICES = re.compile(r"IN \(\?(?:, \?)+\)")
NUMBERED = re.compile(r'\$\d+(::\w+(\[\])?)?( COLLATE "C")?')
MADE_UP = ((re.compile(r"[0-9a-f]{12}"), "0123456789ab"), (re.compile(r"k[0-9a-f]{8}"), "k01234567"))
"""Whole values: the IDs of callers' keys and of master keys."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as a database's driver gets it, with an example of its values."""

    dialect: Dialect
    sql: str
    values: tuple[Any, ...]

    @property
    def form(self) -> str:
        """What it has in common with those that differ in how much they list."""
        return CHOICES.sub("IN (?)", ROWS.sub(r"\1", NUMBERED.sub("?", self.sql)))


@dataclass
class Statements:
    """Those that were noted, each form once."""

    found: dict[tuple[Dialect, str], Statement] = field(default_factory=dict)

    def note(self, dialect: Dialect, sql: str, values: Sequence[Any]) -> None:
        """One was executed."""
        if not NOT_OURS.match(sql.strip()):
            statement = Statement(dialect, sql, tuple(values))
            self.found.setdefault((dialect, statement.form), statement)

    def write(self, path: Path) -> None:
        """Keep them, in the order of their texts."""
        lines = sorted(json.dumps([one.dialect, one.sql, _levelled(one.values)], ensure_ascii=False) for one in self.found.values())
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def kept(path: Path) -> list[Statement]:
    """The statements of a file."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Statement(Dialect(dialect), sql, tuple(_value(value) for value in values)) for dialect, sql, values in lines]


@contextmanager
def noting() -> Iterator[Statements]:
    """Note what is executed in this process while the context lasts, whichever way it goes to a database."""
    statements = Statements()
    embedded, postgres, scan = EmbeddedConnection.execute, PostgresConnection.execute, EmbeddedScan.__init__

    def on_sqlite(self: EmbeddedConnection, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        statements.note(Dialect.SQLITE, sql, parameters)
        return embedded(self, sql, parameters)

    def on_postgresql(self: PostgresConnection, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        statements.note(Dialect.POSTGRESQL, in_postgresql(sql), parameters)
        return postgres(self, sql, parameters)

    def scanned(self: EmbeddedScan, connection: sqlite3.Connection) -> None:
        scan(self, cast("sqlite3.Connection", _Noted(connection, statements)))

    def by_sqlalchemy(connection: Connection, _cursor: object, sql: str, values: Any, _context: object, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's own call
        statements.note(Dialect(connection.dialect.name), sql, values[0] if many else values)

    event.listen(Engine, "before_cursor_execute", by_sqlalchemy)
    try:
        with ExitStack() as patched:
            for kind, method, instead in (
                (EmbeddedConnection, "execute", on_sqlite),
                (PostgresConnection, "execute", on_postgresql),
                (EmbeddedScan, "__init__", scanned),
            ):
                patched.enter_context(patch.object(kind, method, instead))
            yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", by_sqlalchemy)


class _Noted:
    """A connection of the sqlite3 module, as `EmbeddedScan` uses it."""

    def __init__(self, connection: sqlite3.Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        self._statements.note(Dialect.SQLITE, sql, parameters)
        return self._connection.execute(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _levelled(values: Sequence[Any]) -> list[Any]:
    ids: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return ids.setdefault(found[0], f"019b0000-0000-7000-8000-{len(ids) + 1:012}")

    def levelled(value: Any) -> Any:
        if isinstance(value, bytes | memoryview):
            return {"bytes": len(value)}
        if isinstance(value, list | tuple):
            return [levelled(one) for one in value]
        if not isinstance(value, str):
            return value
        text = next((level for made_up, level in MADE_UP if made_up.fullmatch(value)), value)
        text = HASH.sub("0" * 64, TIME.sub("2026-01-02T03:04:05.000006+00:00", UUID.sub(numbered, text)))
        for members, level in MACHINES:
            text = members.sub(level, text)
        return text

    return [levelled(value) for value in values]


def _value(kept: Any) -> Any:
    match kept:
        case {"bytes": int(length)}:
            return bytes(length)
        case list():
            return [_value(one) for one in kept]
        case _:
            return kept
