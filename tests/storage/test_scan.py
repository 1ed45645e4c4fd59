"""Reading a database as it lies there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from app.storage.scan import Damaged, scanning
from tests.storage.database import migrated


@pytest_asyncio.fixture
async def path(tmp_path: Path) -> Path:
    """A database with one record, whose body isn't UTF-8 nor JSON: nothing of it is read but the table."""
    made = tmp_path / "gateway.db"
    async with migrated(made):
        pass
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("DROP TABLE audit_records")
        connection.execute("CREATE TABLE audit_records (number INTEGER PRIMARY KEY, body TEXT, hash BLOB)")
        connection.execute("INSERT INTO audit_records VALUES (1, CAST(x'7bff' AS TEXT), x'00')")
    return made


def test_text_is_told_from_bytes_and_need_not_be_utf_8(path: Path) -> None:
    """A TEXT comes as a bytearray, a BLOB as bytes."""
    with scanning(path) as scan:
        ((row,),) = scan.records()

    assert row == (1, b"{\xff", b"\x00")
    assert [type(column) for column in row] == [int, bytearray, bytes]


def test_it_stays_on_one_snapshot(path: Path) -> None:
    """What is written meanwhile isn't seen, and the writer isn't held up."""
    with scanning(path) as scan, closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer:
        writer.execute("DELETE FROM audit_records")
        assert scan.last_number() == 1
    with scanning(path) as scan:
        assert scan.last_number() == 0


def test_it_can_not_write(path: Path) -> None:
    """The connection refuses."""
    with scanning(path) as scan, pytest.raises(Damaged, match="readonly"):
        scan.one("DELETE FROM audit_records")


def test_what_is_no_database_is_damaged(tmp_path: Path) -> None:
    """A missing file isn't made, and another file isn't read."""
    (tmp_path / "text").write_text("no database " * 100)

    for name in ("missing", "text"):
        with pytest.raises(Damaged), scanning(tmp_path / name):
            pass
    assert not (tmp_path / "missing").exists()
