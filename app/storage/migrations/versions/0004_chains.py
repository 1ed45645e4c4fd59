"""Chains of records, checkpoints, tombstones, and records found by the IDs that they tell of."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD_CHAIN = "before-chains"
GENESIS = bytes(32)
INDEXED = ("request_id", "caller", "token", "code", "name")


def upgrade() -> None:
    """Make the tables; the records that are there become a chain of their own, in the order in which they were written."""
    op.rename_table("audit_records", "audit_records_unchained")
    op.drop_index("ix_audit_records_request_id")
    _create_records()
    _create_chains()
    op.execute(
        "CREATE TRIGGER audit_ids_of_record AFTER INSERT ON audit_records BEGIN "
        "INSERT OR IGNORE INTO audit_ids SELECT value, new.number FROM json_each(new.body -> '$.ids') "
        "UNION ALL SELECT value, new.number FROM json_each(new.body -> '$.linked_ids') "
        "UNION ALL SELECT value, new.number FROM json_each(new.body -> '$.call_ids') "
        "UNION ALL SELECT json_extract(new.body, '$.call_id'), new.number WHERE new.name IN ('call:intent', 'call:outcome') "
        "UNION ALL SELECT json_extract(new.body, '$.send_id'), new.number WHERE new.name = 'send:intent'; "
        "END"
    )
    _chain_what_is_there()
    op.drop_table("audit_records_unchained")


def _create_records() -> None:
    members = ("id", "name", "request_id", "caller", "token", "code", "chain")
    op.create_table(
        "audit_records",
        sa.Column(
            "number",
            sa.Integer,
            sa.CheckConstraint("number = json_extract(body, '$.number')", name=op.f("ck_audit_records_number")),
            primary_key=True,
        ),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        *(_member(name, sa.Text) for name in members),
        _member("seq", sa.Integer),
        sa.UniqueConstraint("id", name="uq_audit_records_id"),
        sa.UniqueConstraint("chain", "seq", name="uq_audit_records_chain_seq"),
    )
    for name in INDEXED:
        op.create_index(f"ix_audit_records_{name}", "audit_records", [name])
    op.create_table(
        "audit_ids",
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sqlite_with_rowid=False,
    )


def _create_chains() -> None:
    op.create_table(
        "audit_chains",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("opened_at", sa.String(32), nullable=False),
        sa.Column("lease_until", sa.String(32)),
        sa.Column("open_since", sa.Integer),
        sa.Column("closed_at", sa.String(32)),
    )
    _create_seals("audit_checkpoints", sa.Column("number", sa.Integer, primary_key=True))
    _create_seals("audit_tombstones")


def _create_seals(table: str, *first: sa.Column[Any]) -> None:
    op.create_table(
        table,
        *first,
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        _member("chain", sa.Text),
        _member("seq", sa.Integer),
        sa.UniqueConstraint("chain", "seq", name=f"uq_{table}_chain_seq"),
    )


def _member(name: str, kind: type[sa.Text | sa.Integer]) -> sa.Column[Any]:
    return sa.Column(name, kind, sa.Computed(f"json_extract(body, '$.{name}')", persisted=False))


def _chain_what_is_there() -> None:
    connection = op.get_bind()
    cursor = connection.exec_driver_sql("SELECT number, body FROM audit_records_unchained ORDER BY number")
    last = ""
    for row in _chained((number, body) for number, body in cursor):
        connection.exec_driver_sql("INSERT INTO audit_records (number, body, hash) VALUES (?, ?, ?)", row)
        last = json.loads(row[1])["at"]
    if last:
        connection.exec_driver_sql("INSERT INTO audit_chains (id, opened_at, closed_at) VALUES (?, ?, ?)", (OLD_CHAIN, last, last))


def _chained(rows: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, bytes]]:
    """The records with their places in them, as RFC 8785 writes them, and their hashes."""
    head = GENESIS
    for seq, (number, old) in enumerate(rows, start=1):
        members = json.loads(old) | {"chain": OLD_CHAIN, "seq": seq, "number": number}
        body = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        head = hashlib.sha256(head + body.encode()).digest()
        yield number, body, head
