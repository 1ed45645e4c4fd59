"""Reading a PostgreSQL database as it lies there."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from threading import Event, Thread, main_thread
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from app.storage import StorageError
from app.storage.postgresql import PostgresConnection
from app.storage.postgresql_scan import SMALL_VALUE, PostgresScan, scanning_server
from app.storage.scan import BATCH_BYTES, LARGEST_VALUE, Damaged
from tests.servers.postgres import Postgres

BARE = "CREATE TABLE audit_records (number bigint PRIMARY KEY, body text, hash bytea)"
ENDLESS = "WITH RECURSIVE n(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM n) SELECT"
READER = "reader"


@pytest.fixture
def address(postgres_server: Postgres, template: str) -> str:
    """A database with one record, whose body isn't JSON: nothing of it is read but the table."""
    made = postgres_server.new_database(template)
    edit(made, "DROP TABLE audit_records", BARE, r"INSERT INTO audit_records VALUES (1, '{ä', '\x00')")
    return made


def edit(address: str, *statements: str) -> None:
    """Change the database by hand."""
    with closing(PostgresConnection(make_url(address))) as connection:
        for statement in statements:
            connection.execute(statement)


def put(address: str, number: int, body: str, stored: bytes) -> None:
    """Store a record as it is."""
    with closing(PostgresConnection(make_url(address))) as connection:
        connection.execute("INSERT INTO audit_records VALUES (?, ?, ?)", (number, body, stored))


def test_text_is_told_from_bytes(address: str) -> None:
    """A text comes as a bytearray, bytes as bytes."""
    with scanning_server(address) as scan:
        ((row,),) = scan.records()

    assert row == (1, "{ä".encode(), b"\x00")
    assert [type(column) for column in row] == [int, bytearray, bytes]


def test_it_stays_on_one_snapshot(address: str) -> None:
    """What is written meanwhile isn't seen, and the writer isn't held up."""
    with scanning_server(address) as scan:
        edit(address, "DELETE FROM audit_records")
        assert scan.last_number() == 1
    with scanning_server(address) as scan:
        assert scan.last_number() == 0


def test_it_can_not_write(address: str) -> None:
    """The transaction refuses, and goes on."""
    with scanning_server(address) as scan:
        with pytest.raises(Damaged, match="read-only transaction"):
            scan.one("DELETE FROM audit_records")
        assert scan.last_number() == 1


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE audit_records", f"CREATE VIEW audit_records AS {ENDLESS} n AS number, '' AS body, ''::bytea AS hash FROM n"],
        ["DROP TABLE audit_records", "CREATE MATERIALIZED VIEW audit_records AS SELECT 1::bigint AS number, '' AS body, ''::bytea AS hash"],
        [
            "DROP TABLE audit_ids",
            "CREATE FOREIGN DATA WRAPPER elsewhere",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere",
            "CREATE FOREIGN TABLE audit_ids (value text, number bigint NOT NULL) SERVER elsewhere",
        ],
        ["CREATE TABLE more () INHERITS (audit_records)"],
        ["DROP TABLE audit_records", f"{BARE} PARTITION BY RANGE (number)"],
        ["ALTER TABLE audit_records SET UNLOGGED"],
        ["ALTER TABLE audit_records DROP body", "ALTER TABLE audit_records ADD body text GENERATED ALWAYS AS ('{}') STORED"],
        ["ALTER TABLE audit_records ALTER body TYPE bytea USING ''::bytea"],
        ["ALTER TABLE audit_records DROP CONSTRAINT audit_records_pkey", "ALTER TABLE audit_records ALTER number DROP NOT NULL"],
        ["ALTER TABLE audit_records DROP hash"],
    ],
)
def test_what_is_not_the_table_that_was_made_is_damaged(address: str, statements: list[str]) -> None:
    """What stands in a table's place could give rows without end, and nothing of it need lie there."""
    edit(address, *statements)

    with pytest.raises(Damaged, match=r"(audit_records|audit_ids) isn't the table"), scanning_server(address):
        pass


def test_functions_beside_the_tables_are_not_called(address: str) -> None:
    """Not even where the search path names their schema first."""
    name = make_url(address).database
    edit(
        address,
        "CREATE FUNCTION octet_length(text) RETURNS int LANGUAGE sql RETURN 0 / 0",
        "CREATE FUNCTION to_regclass(text) RETURNS regclass LANGUAGE sql RETURN 0 / 0",
        f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
    )

    with scanning_server(address) as scan:
        assert [len(batch) for batch in scan.records()] == [1]


def reader(address: str) -> str:
    """The name of a role that can do nothing of itself."""
    edit(
        address,
        f"DO $$ BEGIN CREATE ROLE {READER} LOGIN PASSWORD '{READER}'; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    return READER


def as_reader(address: str) -> str:
    """The address for that role."""
    parts = urlsplit(address)
    return parts._replace(netloc=f"{READER}:{READER}@{parts.hostname}:{parts.port}").geturl()


def test_rows_that_a_policy_hides_are_missed(address: str) -> None:
    """Nothing is read where the role that reads doesn't see all."""
    edit(
        address, "ALTER TABLE audit_records ENABLE ROW LEVEL SECURITY", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader(address)}"
    )

    with scanning_server(as_reader(address)) as scan, pytest.raises(StorageError, match="row-level security"):
        list(scan.records())


def test_what_may_not_be_read_is_told(address: str) -> None:
    """That is no damage."""
    reader(address)

    with pytest.raises(StorageError, match="permission denied"), scanning_server(as_reader(address)) as scan:
        scan.last_number()


def test_what_no_record_can_be_is_not_read(address: str) -> None:
    """A body, or a hash, larger than any is left out; what stands beside it and after it is read, and what is only large too."""
    put(address, 2, "x" * (LARGEST_VALUE + 1), b"\2")
    put(address, 3, "three", bytes(LARGEST_VALUE + 1))
    put(address, 4, "x" * (SMALL_VALUE + 1), b"\4")
    with scanning_server(address) as scan:
        rows = [row for batch in scan.records() for row in batch]

    assert rows[1:] == [(2, None, b"\2"), (3, b"three", None), (4, b"x" * (SMALL_VALUE + 1), b"\4")]


def test_batches_are_bounded_in_bytes(address: str) -> None:
    """Long bodies come a few at a time."""
    long = BATCH_BYTES // 2
    for number in range(2, 8):
        put(address, number, "x" * long, b"")

    with scanning_server(address) as scan:
        assert [len(batch) for batch in scan.records()] == [3, 2, 2]


def test_seals_come_in_the_order_in_which_they_were_stored(address: str) -> None:
    """Tombstones have no number: they are counted."""
    edit(
        address,
        """INSERT INTO audit_tombstones (body, signature) SELECT format('{"seq":%s}', 9 - n), '' FROM generate_series(1, 3) AS n""",
        """INSERT INTO audit_checkpoints (number, body, signature) VALUES (7, '{"seq":1}', ''), (5, '{"seq":2}', '')""",
    )

    with scanning_server(address) as scan:
        assert [row[:2] for batch in scan.seals("audit_tombstones") for row in batch] == [
            (place, f'{{"seq":{9 - place}}}'.encode()) for place in (1, 2, 3)
        ]
        assert [row[0] for batch in scan.seals("audit_checkpoints") for row in batch] == [5, 7]


def test_a_row_that_the_index_lacks_is_missed(address: str) -> None:
    """Records come by their index; how many there are is counted in the table."""
    edit(
        address,
        "INSERT INTO audit_records SELECT n, 'x', '' FROM generate_series(2, 3000) AS n",
        # What the index says of its own completeness is the server's to believe: of 3,000 rows it holds one.
        "ALTER TABLE audit_records DROP CONSTRAINT audit_records_pkey",
        "CREATE INDEX of_one ON audit_records (number) WHERE number = 1",
        "UPDATE pg_index SET indpred = NULL WHERE indexrelid = 'of_one'::regclass",
    )

    with scanning_server(address) as scan, pytest.raises(Damaged, match="by its index, audit_records has 1 rows, and 3000 lie there"):
        list(scan.records())


def test_a_server_that_is_gone_is_told(postgres_server: Postgres, address: str) -> None:
    """It is no damage, before a scan and during one."""
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{make_url(address).database}'"  # noqa: S608 - ours

    with scanning_server(address) as scan:
        postgres_server.ask(cut)
        with pytest.raises(StorageError, match=r"terminat|closed"):
            scan.last_number()
    with pytest.raises(StorageError), scanning_server(address.replace(str(postgres_server.port), "1")):
        pass


@pytest.mark.parametrize("ask", [lambda scan: scan.one(f"{ENDLESS} count(*) FROM n"), lambda scan: list(scan._rows(f"{ENDLESS} n FROM n"))])
def test_a_query_without_end_can_be_interrupted(address: str, ask: Callable[[PostgresScan], object]) -> None:
    """Ctrl-C breaks it off."""
    begun = Event()

    def interrupt() -> None:
        begun.wait()
        signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)

    interrupting = Thread(target=interrupt)
    with scanning_server(address) as scan:
        interrupting.start()
        begun.set()
        with pytest.raises(KeyboardInterrupt):
            ask(scan)
    interrupting.join()
