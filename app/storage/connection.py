"""A connection for work that is done in a thread, whichever database it leads to.

Its SQL is written as SQLite takes it, with `?` for parameters; what PostgreSQL says in another way its own connection translates.

StorageError: the database refused, or doesn't answer; the cause is the driver's own error.
└── Taken: a constraint was broken: what should be new is there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

__all__ = ["Connection", "Dialect", "Executor", "Rows", "StorageError", "Taken"]


class StorageError(Exception):
    """The database refused, or doesn't answer."""


class Taken(StorageError):
    """What should be new is there already, or is what can't be."""


class Dialect(StrEnum):
    """The databases, by SQLAlchemy's names."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement gave; `rowcount` is how many rows it changed."""

    rows: Sequence[tuple[Any, ...]]
    rowcount: int

    def fetchone(self) -> Any:  # noqa: ANN401 - a row as the driver gives it
        """The first row; None where there is none."""
        return self.rows[0] if self.rows else None

    def fetchall(self) -> Sequence[Any]:
        """All rows."""
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Executor(Protocol):
    """Executes statements."""

    @property
    def dialect(self) -> Dialect:
        """The database that they go to."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Execute one statement.

        Raises:
            Taken: a constraint forbids it.
            StorageError: the database refuses, or doesn't answer.
        """


class Connection(Executor, Protocol):
    """Executes statements, each its own transaction, but for those after a `begin_…` up to `COMMIT` or `ROLLBACK`.

    Every method raises `StorageError`.
    """

    def begin_reading(self) -> None:
        """Begin a transaction that sees one moment."""

    def begin_writing(self) -> None:
        """Begin a transaction that writes the record, once all others that do have ended; what it reads from then on still holds."""

    def close(self) -> None:
        """Leave the database; what wasn't committed is gone."""
