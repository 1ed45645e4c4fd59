"""Chains of records, checkpoints, tombstones, and records found by the IDs that they tell of."""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
import structlog
from alembic import op

from app.errors import StartRefused
from app.storage.columns import NUMBER, letters

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
PARTLY_INDEXED = ("code", "by")
SQLITES_TRIGGER = (
    "CREATE TRIGGER audit_ids_of_record AFTER INSERT ON audit_records BEGIN "
    "INSERT OR IGNORE INTO audit_ids SELECT value, new.number FROM json_each(new.body -> '$.ids') "
    "UNION ALL SELECT value, new.number FROM json_each(new.body -> '$.linked_ids') "
    "UNION ALL SELECT value, new.number FROM json_each(new.body -> '$.call_ids') "
    "UNION ALL SELECT json_extract(new.body, '$.call_id'), new.number WHERE new.name IN ('call:intent', 'call:outcome') "
    "UNION ALL SELECT json_extract(new.body, '$.send_id'), new.number WHERE new.name = 'send:intent'; "
    "END"
)
RECORD_JSON = (
    # PostgreSQL can't hold the character U+0000, and refuses to read a body in which it is written.
    r"CREATE FUNCTION record_json(body text) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    r"RETURN replace(body, '\u0000', '\ufffd')::json"
)
RECORD_MEMBER = (
    "CREATE FUNCTION record_member(body text, member text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "RETURN record_json(body) ->> member"
)
JSON_MEMBERS = (
    "CREATE FUNCTION json_members(list json) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "BEGIN ATOMIC SELECT json_array_elements_text(CASE json_typeof(list) WHEN 'array' THEN list END); END"
)
RECORD_LIST = (
    "CREATE FUNCTION record_list(body text, member text) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "BEGIN ATOMIC SELECT json_members(record_json(body) -> member); END"
)
POSTGRESQLS_FUNCTIONS = (RECORD_JSON, RECORD_MEMBER, JSON_MEMBERS, RECORD_LIST)
FILE_IDS = (
    "CREATE FUNCTION audit_ids_of_record() RETURNS trigger LANGUAGE plpgsql AS $$ "
    "DECLARE told json := record_json(new.body); "
    "BEGIN "
    "INSERT INTO audit_ids (value, number) SELECT value, new.number FROM ("
    "SELECT json_members(told -> 'ids') UNION SELECT json_members(told -> 'linked_ids') UNION SELECT json_members(told -> 'call_ids') "
    "UNION SELECT told ->> 'call_id' WHERE new.name IN ('call:intent', 'call:outcome') "
    "UNION SELECT told ->> 'send_id' WHERE new.name = 'send:intent'"
    ") AS told_of (value) WHERE value IS NOT NULL ON CONFLICT DO NOTHING; "
    "RETURN NULL; "
    "END $$"
)
POSTGRESQLS_TRIGGER = (
    FILE_IDS,
    "CREATE TRIGGER audit_ids_of_record AFTER INSERT ON audit_records FOR EACH ROW EXECUTE FUNCTION audit_ids_of_record()",
)


def upgrade() -> None:
    """Make the tables; the records that are there become a chain of their own, in the order in which they were written."""
    if _on_sqlite():
        op.rename_table("audit_records", "audit_records_unchained")
        op.drop_index("ix_audit_records_request_id")
        _create_tables()
        op.execute(SQLITES_TRIGGER)
        _chain_what_is_there()
        op.drop_table("audit_records_unchained")
    else:
        for function in POSTGRESQLS_FUNCTIONS:
            op.execute(function)
        _create_tables()
        for statement in POSTGRESQLS_TRIGGER:
            op.execute(statement)


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _create_tables() -> None:
    _create_records()
    _create_chains()


def _create_records() -> None:
    members = ("id", "name", "request_id", "code", "chain", "by")
    number = "number = json_extract(body, '$.number')" if _on_sqlite() else "number = record_member(body, 'number')::bigint"
    op.create_table(
        "audit_records",
        sa.Column(
            "number", NUMBER, sa.CheckConstraint(number, name=op.f("ck_audit_records_number")), primary_key=True, autoincrement=False
        ),
        sa.Column("body", letters(), nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        *(_member(name) for name in members),
        _of("caller", "caller:"),
        _of("token", "token:"),
        _seq(),
        sa.UniqueConstraint("id", name="uq_audit_records_id"),
        sa.UniqueConstraint("chain", "seq", name="uq_audit_records_chain_seq"),
    )
    for name in INDEXED:
        op.create_index(f"ix_audit_records_{name}", "audit_records", [name])
    for name in PARTLY_INDEXED:
        there = sa.text(f'"{name}" IS NOT NULL' if name == "by" else f"{name} IS NOT NULL")
        op.create_index(f"ix_audit_records_{name}", "audit_records", [name], sqlite_where=there, postgresql_where=there)
    op.create_table(
        "audit_ids",
        sa.Column("value", letters(), primary_key=True),
        sa.Column("number", NUMBER, primary_key=True),
        sqlite_with_rowid=False,
    )


def _create_chains() -> None:
    op.create_table(
        "audit_chains",
        sa.Column("id", letters(36), primary_key=True),
        sa.Column("opened_at", letters(32), nullable=False),
        sa.Column("lease_until", letters(32)),
        sa.Column("open_since", NUMBER),
        sa.Column("closed_at", letters(32)),
    )
    _create_seals("audit_checkpoints", sa.Column("number", NUMBER, primary_key=True, autoincrement=False))
    _create_seals("audit_tombstones")


def _create_seals(table: str, *first: sa.Column[Any]) -> None:
    op.create_table(
        table,
        *first,
        sa.Column("body", letters(), nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        _member("chain"),
        _seq(),
        sa.UniqueConstraint("chain", "seq", name=f"uq_{table}_chain_seq"),
    )


def _member(name: str) -> sa.Column[Any]:
    return sa.Column(name, letters(), _computed(f"json_extract(body, '$.{name}')", f"record_member(body, '{name}')"))


def _seq() -> sa.Column[Any]:
    return sa.Column("seq", NUMBER, _computed("json_extract(body, '$.seq')", "record_member(body, 'seq')::bigint"))


def _of(member: str, names: str) -> sa.Column[Any]:
    changed = f"iif(json_extract(body, '$.name') GLOB '{names}*', json_extract(body, '$.subject'), NULL)"
    ours = f"CASE WHEN starts_with(record_member(body, 'name'), '{names}') THEN record_member(body, 'subject') END"
    sqlites, postgresqls = (f"json_extract(body, '$.{member}')", changed), (f"record_member(body, '{member}')", ours)
    return sa.Column(member, letters(), _computed(*(f"coalesce({own}, {other})" for own, other in (sqlites, postgresqls))))


def _computed(sqlites: str, postgresqls: str) -> sa.Computed:
    """Read out of the body; PostgreSQL stores what it computes."""
    return sa.Computed(sqlites, persisted=False) if _on_sqlite() else sa.Computed(postgresqls, persisted=True)


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
