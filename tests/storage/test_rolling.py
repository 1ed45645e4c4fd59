"""A rolling update: the statements of older versions' code, on the newest schema, on both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from app.storage import Dialect, open_engine
from app.storage.migrate import _needed, known_schemas, newest_schema, upgrade
from tests.servers.postgres import Postgres

from .database import migrated
from .executed import KEPT, Statement, Statements, kept

FIRST = "0005"
"""The first schema whose statements are kept: from 0006 on code of two versions may share a database."""

OLDER = sorted(schema for schema in known_schemas() if (_needed(newest_schema()) or FIRST) <= schema < newest_schema())
"""Those whose code may use the newest."""

FOREIGN_KEYS = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint WHERE contype = 'f'"
Failures = list[tuple[str, str]]


async def on_sqlite(path: Path, statements: Sequence[Statement], *changes: str) -> Failures:
    """Which of these fail, and how, on a file with the newest schema and these changes to it; each is taken back."""
    async with migrated(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for change in changes:
            connection.execute(change)
        failures = []
        for statement in statements:
            connection.execute("BEGIN")
            try:
                connection.execute(statement.sql, statement.values).fetchall()
            except sqlite3.Error as error:
                failures.append((statement.sql, str(error)))
            connection.execute("ROLLBACK")
    return failures


async def on_postgresql(server: Postgres, statements: Sequence[Statement], *changes: str) -> Failures:
    """Which of these fail, and how, on a server's database with the newest schema and these changes to it; each is taken back."""
    engine = open_engine(server.new_database())
    await upgrade(engine)
    await engine.dispose()
    connection = await asyncpg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        # What the examples refer to isn't there.
        for change in (*[row[0] for row in await connection.fetch(FOREIGN_KEYS)], *changes):
            await connection.execute(change)
        failures = []
        for statement in statements:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.fetch(statement.sql, *statement.values)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                failures.append((statement.sql, str(error)))
            await transaction.rollback()
    finally:
        await connection.close()
    return failures


def of(schema: str, dialect: Dialect) -> list[Statement]:
    """What the code of a schema executes on a database."""
    return [one for one in kept(KEPT / f"{schema}.jsonl") if one.dialect is dialect]


def test_the_statements_of_each_older_schema_are_kept() -> None:
    """Whoever writes a migration has kept before, by `make statements`, what the code executed until then."""
    assert [schema for schema in OLDER if not (KEPT / f"{schema}.jsonl").exists()] == []


@pytest.mark.parametrize("schema", OLDER)
async def test_older_code_goes_on_working_on_sqlite(schema: str, tmp_path: Path) -> None:
    """Every statement that its code executes can be executed on the newest schema."""
    statements = of(schema, Dialect.SQLITE)

    assert len(statements) > 100
    assert await on_sqlite(tmp_path / "gateway.db", statements) == []


@pytest.mark.parametrize("schema", OLDER)
async def test_older_code_goes_on_working_on_postgresql(schema: str, postgres_server: Postgres) -> None:
    """Every statement that its code executes can be executed on the newest schema."""
    statements = of(schema, Dialect.POSTGRESQL)

    assert len(statements) > 100
    assert await on_postgresql(postgres_server, statements) == []


@pytest.mark.parametrize(
    ("change", "breaks"),
    [
        ("ALTER TABLE jobs RENAME COLUMN linked TO done", "INSERT INTO jobs"),
        ("ALTER TABLE tokens ADD COLUMN owner TEXT NOT NULL", "INSERT INTO tokens"),
        ("ALTER TABLE caller_keys DROP COLUMN last_used_at", "UPDATE caller_keys SET last_used_at"),
        ("ALTER TABLE audit_records ADD CHECK (length(body) < 9)", "INSERT INTO audit_records"),
    ],
)
async def test_a_change_that_is_not_safe_is_found(change: str, breaks: str, postgres_server: Postgres) -> None:
    """A column renamed, required or dropped, and a new condition, break what older code writes."""
    failures = await on_postgresql(postgres_server, of(FIRST, Dialect.POSTGRESQL), change)

    assert any(breaks in sql for sql, _ in failures)


async def test_a_dropped_table_is_found_on_sqlite(tmp_path: Path) -> None:
    """What read it fails."""
    failures = await on_sqlite(tmp_path / "gateway.db", of(FIRST, Dialect.SQLITE), "DROP TABLE idempotency")

    assert {error for _, error in failures} == {"no such table: idempotency"}


def test_a_form_is_kept_once() -> None:
    """However many rows a statement writes or alternatives it names; its values are levelled."""
    statements = Statements()
    for sql, values in (
        ("INSERT INTO a (b) VALUES (?, ?)", [1, "019b1111-0000-7000-8000-000000000009"]),
        ("INSERT INTO a (b) VALUES (?, ?),(?, ?)", [1, "x", 2, "y"]),
        ("BEGIN", []),
    ):
        statements.note(Dialect.SQLITE, sql, values)
    for sql in ('SELECT 1 WHERE a IN ($1::VARCHAR COLLATE "C")', 'SELECT 1 WHERE a IN ($1::VARCHAR COLLATE "C", $2::VARCHAR COLLATE "C")'):
        statements.note(Dialect.POSTGRESQL, sql, [b"12"])

    assert len(statements.found) == 2


def test_what_is_kept_is_levelled(tmp_path: Path) -> None:
    """Nothing of the machine or of one run stands in a file, and what is bytes is bytes again."""
    statements = Statements()
    body = '{"at":"2030-01-01T00:00:00.000001+00:00","host":"mine","process":77,"id":"019b1111-0000-7000-8000-000000000009"}'
    statements.note(Dialect.SQLITE, "SELECT ?, ?, ?", [body, b"12", None])
    statements.write(tmp_path / "kept.jsonl")
    [found] = kept(tmp_path / "kept.jsonl")

    levelled = '{"at":"2026-01-02T03:04:05.000006+00:00","host":"levelled","process":1,"id":"019b0000-0000-7000-8000-000000000001"}'
    assert found == Statement(Dialect.SQLITE, "SELECT ?, ?, ?", (levelled, bytes(2), None))
