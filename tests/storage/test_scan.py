"""Reading a database as it lies there."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Event, Thread, main_thread

import pytest
import pytest_asyncio

from app.storage.embedded_scan import scanning
from app.storage.scan import BATCH_BYTES, LARGEST_VALUE, Damaged, Scan
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


def edit(path: Path, *statements: str) -> None:
    """Change the database by hand."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


ENDLESS = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT"


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE audit_records", f"CREATE VIEW audit_records AS {ENDLESS} n AS number, '' AS body, x'' AS hash FROM n"],
        ["DROP TABLE audit_ids", f"CREATE VIEW audit_ids AS {ENDLESS} n AS number, '' AS value FROM n"],
        ["DROP TABLE audit_records", "CREATE VIRTUAL TABLE audit_records USING fts5(number, body, hash)"],
        ["DROP TABLE audit_records", "CREATE TABLE audit_records (number INTEGER PRIMARY KEY, body TEXT AS ('{}'), hash BLOB)"],
        ["DROP TABLE audit_records", "CREATE TABLE audit_records (number INTEGER PRIMARY KEY, body TEXT, hash BLOB, rowid TEXT)"],
        ["DROP TABLE audit_records", "CREATE TABLE audit_records (number INTEGER PRIMARY KEY, body TEXT)"],
        ["DROP TABLE sealed_keys", "CREATE VIEW sealed_keys AS SELECT 1 AS name, 1 AS key_id, 1 AS nonce, 1 AS sealed"],
    ],
)
def test_what_is_not_the_table_that_was_made_is_damaged(path: Path, statements: list[str]) -> None:
    """A view could give rows without end, and nothing of it lies there."""
    edit(path, *statements)

    with pytest.raises(Damaged, match="isn't the table"), scanning(path):
        pass


def test_what_no_record_can_be_is_not_read(path: Path) -> None:
    """A body, or a hash, larger than any is left out; what stands beside it and after it is read."""
    size = LARGEST_VALUE + 1
    edit(
        path,
        f"INSERT INTO audit_records VALUES (2, CAST(zeroblob({size}) AS TEXT), x'02')",  # noqa: S608 - a number
        f"INSERT INTO audit_records VALUES (3, 'x', zeroblob({size}))",  # noqa: S608 - a number
        "INSERT INTO audit_records VALUES (4, 'four', x'04')",
    )
    with scanning(path) as scan:
        rows = [row for batch in scan.records() for row in batch]

    assert rows[1:] == [(2, None, b"\2"), (3, None, None), (4, b"four", b"\4")]


def test_a_number_that_is_not_the_row_is_not_believed(path: Path) -> None:
    """Where the column is one beside what rows are found by, it can hold anything."""
    edit(path, "DROP TABLE audit_records", "CREATE TABLE audit_records (number, body TEXT, hash BLOB)")
    edit(path, "INSERT INTO audit_records VALUES ('one', 'x', x'01')")

    with scanning(path) as scan:
        assert list(scan.records()) == [[(1, None, b"\1")]]


def test_batches_are_bounded_in_bytes(path: Path) -> None:
    """Long bodies come a few at a time."""
    long = BATCH_BYTES // 2
    insert = f"INSERT INTO audit_records SELECT max(number) + 1, CAST(zeroblob({long}) AS TEXT), x'' FROM audit_records"  # noqa: S608 - a number
    edit(path, *[insert] * 6)

    with scanning(path) as scan:
        assert [len(batch) for batch in scan.records()] == [3, 2, 2]


def test_a_query_without_end_can_be_interrupted(path: Path) -> None:
    """Ctrl-C breaks it off."""
    begun = Event()

    def interrupt() -> None:
        begun.wait()
        signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)

    def ask(scan: Scan) -> None:
        begun.set()
        scan.one(f"{ENDLESS} count(*) FROM n")

    interrupting = Thread(target=interrupt)
    with scanning(path) as scan:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            ask(scan)
    interrupting.join()
