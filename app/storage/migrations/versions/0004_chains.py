"""Chains of records, checkpoints, tombstones, and records found by the IDs that they tell of."""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
import structlog
from alembic import op

from app.errors import StartRefused

log = structlog.get_logger(__name__)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD_CHAIN = "before-chains"
GENESIS = bytes(32)
PAGE = "SELECT number, body FROM audit_records_unchained WHERE number > ? ORDER BY number LIMIT ?"
PAGE_RECORDS = 1_000
LOGGED_RECORDS = 100_000
INDEXED = ("request_id", "caller", "token", "name")


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
    members = ("id", "name", "request_id", "code", "chain", "by")
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
        _of("caller", "caller:*"),
        _of("token", "token:*"),
        _member("seq", sa.Integer),
        sa.UniqueConstraint("id", name="uq_audit_records_id"),
        sa.UniqueConstraint("chain", "seq", name="uq_audit_records_chain_seq"),
    )
    for name in INDEXED:
        op.create_index(f"ix_audit_records_{name}", "audit_records", [name])
    op.create_index("ix_audit_records_code", "audit_records", ["code"], sqlite_where=sa.text("code IS NOT NULL"))
    op.create_index("ix_audit_records_by", "audit_records", ["by"], sqlite_where=sa.text('"by" IS NOT NULL'))
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


def _of(member: str, names: str) -> sa.Column[Any]:
    changed = f"iif(json_extract(body, '$.name') GLOB '{names}', json_extract(body, '$.subject'), NULL)"
    return sa.Column(member, sa.Text, sa.Computed(f"coalesce(json_extract(body, '$.{member}'), {changed})", persisted=False))


def _chain_what_is_there() -> None:
    """Copy the records page by page, with their places in them; they are numbered anew, without the gaps that a rolled back write left."""
    connection = op.get_bind()
    head, seq, last, at = GENESIS, 0, 0, ""
    while page := connection.exec_driver_sql(PAGE, (last, PAGE_RECORDS)).fetchall():
        rows = []
        for number, old in page:
            seq, last = seq + 1, number
            members = _members(number, old) | {"chain": OLD_CHAIN, "seq": seq, "number": seq}
            body = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            head = hashlib.sha256(head + body.encode()).digest()
            rows.append((seq, body, head))
            at = members["at"]
        connection.exec_driver_sql("INSERT INTO audit_records (number, body, hash) VALUES (?, ?, ?)", rows)
        if seq % LOGGED_RECORDS == 0:
            log.info("records are being chained", so_far=seq)
    if seq:
        connection.exec_driver_sql("INSERT INTO audit_chains (id, opened_at, closed_at) VALUES (?, ?, ?)", (OLD_CHAIN, at, at))


def _members(number: int, old: str) -> dict[str, Any]:
    """What a record holds.

    Raises:
        StartRefused: it isn't a record.
    """
    try:
        members: dict[str, Any] = json.loads(old)
        old.encode()
        _ = members["id"], members["at"], members["name"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"the audit record {number} is damaged, so the records can't be chained; nothing was changed: {error!r}"
        raise StartRefused(message) from error
    return members
