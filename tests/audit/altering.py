"""Databases that tests alter by hand, past all checks: a file of SQLite's, or a server's."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.storage import Connection, Dialect
from app.storage.embedded import EmbeddedConnection
from app.storage.embedded_scan import scanning
from app.storage.postgresql import PostgresConnection
from app.storage.postgresql_scan import scanning_server
from app.storage.scan import Scan
from tests.servers.postgres import Postgres
from tests.storage.database import address_of

__all__ = ["ON_SQLITE", "Altered", "InFile", "OnServer"]

ON_SQLITE = pytest.mark.parametrize("empty", [Dialect.SQLITE], indirect=True)
"""For a test of histories that is about SQLite, or its file."""

WRITTEN = {"body": ("audit_records", "audit_checkpoints", "audit_tombstones"), "hash": ("audit_records",)} | {
    "signature": ("audit_checkpoints", "audit_tombstones")
}
TABLES = ("audit_records", "audit_ids", "audit_chains", "audit_checkpoints", "audit_tombstones")
CONSTRAINTS = "SELECT conname FROM pg_constraint WHERE conrelid = 'audit_records'::regclass ORDER BY contype = 'p'"
COMPUTED = "SELECT attname FROM pg_attribute WHERE attrelid = ?::text::regclass AND attgenerated <> ''"


class Altered(ABC):
    """A database with the newest schema at first."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is, as SQLAlchemy takes it."""

    @abstractmethod
    def editing(self) -> AbstractContextManager[Connection]:
        """Write to it past all checks."""

    @abstractmethod
    def scanning(self) -> AbstractContextManager[Scan]:
        """Read it as a verification does."""

    @abstractmethod
    def copied(self) -> Altered:
        """A copy of it, as it is now."""

    @abstractmethod
    def rewrite(self, old: bytes, new: bytes) -> None:
        """Exchange what stands there once, whatever it is."""

    @abstractmethod
    def loosen(self) -> None:
        """Leave the records' table without a constraint, an index or a trigger."""


class InFile(Altered):
    """A file of SQLite's; all of it is in there after an edit."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def address(self) -> str:
        """Where its file is."""
        return address_of(self.path)

    @contextmanager
    def editing(self) -> Iterator[Connection]:
        """Write to it past all checks."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA ignore_check_constraints=ON")
            yield EmbeddedConnection(connection)

    def scanning(self) -> AbstractContextManager[Scan]:
        """Read it as a verification does."""
        return scanning(self.path)

    def copied(self) -> InFile:
        """A copy of it, as it is now."""
        copy = self.path.with_name(f"copy-of-{self.path.name}")
        copy.write_bytes(self.path.read_bytes())
        return InFile(copy)

    def rewrite(self, old: bytes, new: bytes) -> None:
        """Exchange what stands there once."""
        with self.editing() as connection:
            # Without it, what lies in unused parts of pages might be mistaken for the record.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        held = self.path.read_bytes()
        assert held.count(old) == 1
        assert len(old) == len(new)
        self.path.write_bytes(held.replace(old, new))

    def loosen(self) -> None:
        """Leave the records' table without a constraint, an index or a trigger."""
        with self.editing() as connection:
            connection.execute("CREATE TABLE bare (number INTEGER PRIMARY KEY, body TEXT, hash BLOB)")
            connection.execute("INSERT INTO bare SELECT number, body, hash FROM audit_records")
            connection.execute("DROP TABLE audit_records")
            connection.execute("ALTER TABLE bare RENAME TO audit_records")


class OnServer(Altered):
    """A server's; whoever owns it can do all of this.

    Args:
        server: where it is made.
        template: the name of the database that it is a copy of.
    """

    def __init__(self, server: Postgres, template: str) -> None:
        self._server = server
        self._template = template
        self._address = ""
        self._is_worn = True
        self._connection: Connection | None = None
        self._copies: list[OnServer] = []

    @property
    def address(self) -> str:
        """Where it is, until it begins anew."""
        return self._address

    def close(self) -> None:
        """Leave it, and its copies."""
        while self._copies:
            self._copies.pop().close()
        if self._connection:
            self._connection.close()
            self._connection = None

    def begin_anew(self) -> None:
        """Take all records out of it; where the tables were altered, take another."""
        if self._is_worn:
            self._copy_template()
        else:
            with self.editing() as connection:
                connection.execute(f"TRUNCATE {', '.join(TABLES)}")

    @contextmanager
    def editing(self) -> Iterator[Connection]:
        """Write to it past all checks."""
        if self._connection is None:
            self._connection = PostgresConnection(make_url(self._address))
            self._connection.execute("SET synchronous_commit = off")
        yield self._connection

    def scanning(self) -> AbstractContextManager[Scan]:
        """Read it as a verification does."""
        return scanning_server(self._address)

    def copied(self) -> OnServer:
        """A copy of it, as it is now."""
        self.close()
        copy = OnServer(self._server, make_url(self._address).database or "")
        copy._copy_template()
        self._copies.append(copy)
        return copy

    def rewrite(self, old: bytes, new: bytes) -> None:
        """Exchange what stands there once."""
        changed = 0
        with self.editing() as connection:
            self._keep_what_is_computed(connection)
            for column, tables in WRITTEN.items():
                with suppress(UnicodeDecodeError):
                    values = (new.decode(), old.decode()) if column == "body" else (new, old)
                    for table in tables:
                        query = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608 - constants
                        changed += connection.execute(query, values).rowcount
        assert changed == 1

    def loosen(self) -> None:
        """Leave the records' table without a constraint, an index or a trigger."""
        with self.editing() as connection:
            self._keep_what_is_computed(connection)
            connection.execute("ALTER TABLE audit_records DISABLE TRIGGER USER")
            for (name,) in connection.execute(CONSTRAINTS):
                connection.execute(f"ALTER TABLE audit_records DROP CONSTRAINT {name}")

    def _copy_template(self) -> None:
        self.close()
        self._address, self._is_worn = self._server.new_database(self._template), False
        with self.editing() as connection:
            connection.execute("ALTER TABLE audit_records DROP CONSTRAINT IF EXISTS ck_audit_records_number")

    def _keep_what_is_computed(self, connection: Connection) -> None:
        """Columns that the server computed keep what is in them, whatever the body becomes."""
        self._is_worn = True
        for table in WRITTEN["body"]:
            for (name,) in connection.execute(COMPUTED, (table,)):
                connection.execute(f'ALTER TABLE {table} ALTER COLUMN "{name}" DROP EXPRESSION')
