"""Rehearsals: a copy in memory of what is there, and the file as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.storage import reading, rehearsed, writing
from app.storage.migrate import newest_schema, schema_of, upgrade
from app.storage.tables import audit_records, callers

from .database import migrated

CALLER = {"id": "1", "name": "order-service", "weight": 1, "created_at": "2026-01-01"}
CRASHING = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("INSERT INTO callers (id, name, weight, created_at) VALUES ('2', 'of-the-log', 1, '2026-01-01')")
os.kill(os.getpid(), signal.SIGKILL)
"""


PAIRING = """
import sqlite3, sys
for number in range(100_000):
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for half in "ab":
            name = f"{number}{half}"
            connection.execute("INSERT INTO callers (id, name, weight, created_at) VALUES (?, ?, 1, '2026-01-01')", (name, name))
        connection.execute("COMMIT")
    if number == 0:
        print("begun", flush=True)
    connection.close()
"""


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """A folder's files, each with the time of its last change."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


async def names_of(path: Path) -> list[str]:
    """The callers in a rehearsal."""
    async with rehearsed(path) as engine, reading(engine) as connection:
        return list((await connection.execute(select(callers.c.name).order_by(callers.c.id))).scalars())


async def with_a_caller(path: Path) -> None:
    """A database with one caller and one record."""
    async with migrated(path) as engine, writing(engine) as connection:
        await connection.execute(callers.insert().values(CALLER))
        await connection.execute(audit_records.insert().values(number=1, body='{"number":1}', hash=b""))


async def test_a_copy_has_the_callers_and_no_records(tmp_path: Path) -> None:
    """Schema and callers are there; records, which can be many, are not; and what is done to the copy leaves the files as they were."""
    path = tmp_path / "a b%20?#.db"
    await with_a_caller(tmp_path / "gateway.db")
    (tmp_path / "gateway.db").rename(path)
    before = contents(tmp_path)

    async with rehearsed(path) as engine:
        schema = await schema_of(engine)
        async with reading(engine) as connection:
            names = (await connection.execute(select(callers.c.name))).scalars().all()
            records = (await connection.execute(select(audit_records.c.number))).all()
        async with writing(engine) as connection:
            await connection.execute(callers.delete())

    assert (schema, names, records) == (newest_schema(), ["order-service"], [])
    assert contents(tmp_path) == before
    assert list(before) == [path.name]


@pytest.mark.parametrize("beside", [{"gateway.db", "gateway.db-wal"}, {"gateway.db", "gateway.db-wal", "gateway.db-shm"}])
async def test_a_log_that_a_crash_left_is_read_too(tmp_path: Path, beside: set[str]) -> None:
    """What was committed and isn't in the file yet is in the copy; no file is made, changed or even touched, with an index or without."""
    path = tmp_path / "gateway.db"
    await with_a_caller(path)
    crashed = subprocess.run([sys.executable, "-c", CRASHING, path], check=False)  # noqa: ASYNC221 - it kills itself at once
    if "gateway.db-shm" not in beside:
        (tmp_path / "gateway.db-shm").unlink()
    before = contents(tmp_path)

    names = await names_of(path)

    assert (crashed.returncode, set(before)) == (-signal.SIGKILL, beside)
    assert names == ["order-service", "of-the-log"]
    assert contents(tmp_path) == before


async def test_a_copy_is_of_one_moment_also_while_others_write(tmp_path: Path) -> None:
    """Beside a process that opens, writes and leaves without a log, again and again, no copy is torn, and none is taken for broken."""
    path = tmp_path / "gateway.db"
    await with_a_caller(path)
    with subprocess.Popen([sys.executable, "-c", PAIRING, path], stdout=subprocess.PIPE) as writing_away:  # noqa: ASYNC220 - as above
        try:
            assert writing_away.stdout
            assert await asyncio.to_thread(writing_away.stdout.readline) == b"begun\n"
            found = [await names_of(path) for _ in range(40)]
        finally:
            writing_away.kill()

    halves = [[{name[:-1] for name in names if name.endswith(half)} for half in "ab"] for names in found]
    assert all(first == second for first, second in halves)
    assert len(found[-1]) > len(found[0])


async def test_no_file_is_an_empty_database(tmp_path: Path) -> None:
    """A database that isn't there can be rehearsed from its beginning, and isn't made."""
    async with rehearsed(tmp_path / "gateway.db") as engine:
        before = await schema_of(engine)
        await upgrade(engine)

        assert (before, await schema_of(engine)) == (None, newest_schema())
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - just the names


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """It is the error that a database which can't be used always is."""
    (tmp_path / "gateway.db").write_bytes(b"this is no database, but it is long enough to be taken for one" * 100)

    with pytest.raises(SQLAlchemyError, match="file is not a database"):
        async with rehearsed(tmp_path / "gateway.db"):
            pass
