"""The tables. Times are UTC, in ISO 8601 with microseconds; IDs are UUIDv7 in text form."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from app.storage.columns import NUMBER, letters

__all__ = [
    "FILED_LISTS",
    "FILED_MEMBERS",
    "METADATA",
    "audit_chains",
    "audit_checkpoints",
    "audit_ids",
    "audit_records",
    "audit_tombstones",
    "bookmarks",
    "caller_keys",
    "callers",
    "grants",
    "idempotency",
    "job_parts",
    "jobs",
    "revision",
    "schema_needs",
    "sealed_keys",
    "tokens",
]

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tokens = Table(
    "tokens",
    METADATA,
    Column("id", letters(36), primary_key=True),
    Column("name", letters(64), nullable=False, unique=True),
    Column("kind", letters(16), nullable=False),
    Column("rate", Integer, nullable=False),
    Column("burst", letters(16), nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("key_id", letters(64), nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("value_hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", letters(32), nullable=False),
    Column("rotated_at", letters(32), nullable=False),
    Column("pacing", letters(16), nullable=False, server_default="learned"),
    Column("declared", Integer, nullable=False, server_default="0"),
)

callers = Table(
    "callers",
    METADATA,
    Column("id", letters(36), primary_key=True),
    Column("name", letters(64), nullable=False, unique=True),
    Column("role", letters(16)),
    Column("weight", Integer, nullable=False),
    Column("rate", letters(64)),
    Column("default_token_id", ForeignKey("tokens.id", ondelete="SET NULL")),
    Column("created_at", letters(32), nullable=False),
    Column("enabled", Integer, nullable=False, server_default="1"),
    Column("declared", Integer, nullable=False, server_default="0"),
    Column("networks", letters(), nullable=False, server_default="[]"),
    Column("origins", letters(), nullable=False, server_default="[]"),
    Column("claims", letters(), nullable=False, server_default="{}"),
)

caller_keys = Table(
    "caller_keys",
    METADATA,
    Column("id", letters(16), primary_key=True),
    Column("caller_id", ForeignKey("callers.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", letters(32), nullable=False),
    Column("expires_at", letters(32)),
    Column("last_used_at", letters(32)),
)

grants = Table(
    "grants",
    METADATA,
    Column("caller_id", ForeignKey("callers.id", ondelete="CASCADE"), primary_key=True),
    Column("token_id", ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("operations", letters()),
)

sealed_keys = Table(
    "sealed_keys",
    METADATA,
    Column("name", letters(64), primary_key=True),
    Column("key_id", letters(64), nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

revision = Table(
    "revision",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single"), primary_key=True),
    Column("number", Integer, nullable=False),
)


def _member(name: str, kind: TypeEngine[Any] | None = None) -> Column[Any]:
    return Column(name, kind or letters(), Computed(f"json_extract(body, '$.{name}')", persisted=False))


def _of(member: str, names: str) -> Column[Any]:
    """The member, or the subject where such a change has been made to it."""
    changed = f"iif(json_extract(body, '$.name') GLOB '{names}', json_extract(body, '$.subject'), NULL)"
    return Column(member, letters(), Computed(f"coalesce(json_extract(body, '$.{member}'), {changed})", persisted=False))


FILED_LISTS = ("ids", "linked_ids", "call_ids")
FILED_MEMBERS = {"call:intent": "call_id", "call:outcome": "call_id", "send:intent": "send_id"}
"""By what records are filed in `audit_ids`: what is in these lists and, in one of that name, this member. The trigger says the same."""

# By `->` a list is read out of the body that is parsed already; `json_each` would parse all of the body again for each.
INDEX_IDS = DDL(  # type: ignore[no-untyped-call]
    "CREATE TRIGGER audit_ids_of_record AFTER INSERT ON audit_records BEGIN "
    "INSERT OR IGNORE INTO audit_ids SELECT value, new.number FROM json_each(new.body -> '$.ids') "
    "UNION ALL SELECT value, new.number FROM json_each(new.body -> '$.linked_ids') "
    "UNION ALL SELECT value, new.number FROM json_each(new.body -> '$.call_ids') "
    "UNION ALL SELECT json_extract(new.body, '$.call_id'), new.number WHERE new.name IN ('call:intent', 'call:outcome') "
    "UNION ALL SELECT json_extract(new.body, '$.send_id'), new.number WHERE new.name = 'send:intent'; "
    "END"
)

audit_records = Table(
    "audit_records",
    METADATA,
    Column("number", NUMBER, CheckConstraint("number = json_extract(body, '$.number')", name="number"), primary_key=True),
    Column("body", letters(), nullable=False),
    Column("hash", LargeBinary, nullable=False),
    _member("id"),
    _member("name"),
    _member("request_id"),
    _of("caller", "caller:*"),
    _of("token", "token:*"),
    _member("code"),
    _member("by"),
    _member("chain"),
    _member("seq", NUMBER),
    UniqueConstraint("id"),
    UniqueConstraint("chain", "seq"),
    Index("ix_audit_records_request_id", "request_id"),
    Index("ix_audit_records_caller", "caller"),
    Index("ix_audit_records_token", "token"),
    Index("ix_audit_records_code", "code", sqlite_where=text("code IS NOT NULL")),
    Index("ix_audit_records_name", "name"),
    Index("ix_audit_records_by", "by", sqlite_where=text('"by" IS NOT NULL')),
    listeners=[("after_create", INDEX_IDS)],
)
"""The record as it was written, canonical JSON in `body`, and the hash that chains it to the one before; the other columns are read out of
the body by the database, `caller` and `token` also of changes that were made to one. `number` is its place among all, `seq` the one in its
chain."""

audit_ids = Table(
    "audit_ids",
    METADATA,
    Column("value", letters(), primary_key=True),
    Column("number", NUMBER, primary_key=True),
    sqlite_with_rowid=False,
)
"""Which records ask for an order's ID or tell of it, which begin or end a call or begin a send, and which tell of a send that carries a
call. A trigger reads it out of the body, since an index can't hold a list's members."""

audit_chains = Table(
    "audit_chains",
    METADATA,
    Column("id", letters(36), primary_key=True),
    Column("opened_at", letters(32), nullable=False),
    Column("lease_until", letters(32)),
    Column("open_since", NUMBER),
    Column("closed_at", letters(32)),
)
"""The chains and the processes that write them. A process that lives renews its lease; without one (NULL) a chain belongs to none, as
that of administration does. `open_since` is the number of the oldest intent without an outcome as of the last renewal. What may be believed
of this table is not proven by any signature; the records are."""

audit_checkpoints = Table(
    "audit_checkpoints",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("body", letters(), nullable=False),
    Column("signature", LargeBinary, nullable=False),
    _member("chain"),
    _member("seq", NUMBER),
    UniqueConstraint("chain", "seq"),
)
"""Signed heads of chains; `number` is the order in which they were made."""

audit_tombstones = Table(
    "audit_tombstones",
    METADATA,
    Column("body", letters(), nullable=False),
    Column("signature", LargeBinary, nullable=False),
    _member("chain"),
    _member("seq", NUMBER),
    UniqueConstraint("chain", "seq"),
)
"""What stands for the removed beginning of a chain: signed, up to which record and with which hash."""

jobs = Table(
    "jobs",
    METADATA,
    Column("id", letters(36), primary_key=True),
    Column("kind", letters(8), nullable=False),
    Column("caller_id", letters(36), nullable=False),
    Column("caller", letters(64), nullable=False),
    Column("basis", letters(), nullable=False),
    Column("credential_id", letters(), nullable=False),
    Column("request_id", letters(), nullable=False),
    Column("trace_id", letters(32)),
    Column("address", letters()),
    Column("origin", letters()),
    Column("operation", letters(), nullable=False),
    Column("parameter", letters(), nullable=False),
    Column("token_id", letters(36), nullable=False),
    Column("token", letters(64), nullable=False),
    Column("priority", letters(16), nullable=False),
    Column("state", letters(16), nullable=False),
    Column("total", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("linked", Integer, nullable=False),
    Column("uncertain", Integer, nullable=False),
    Column("cancelling", Integer, nullable=False),
    Column("created_at", letters(32), nullable=False),
    Column("started_at", letters(32)),
    Column("finished_at", letters(32)),
    Column("expires_at", letters(32), nullable=False),
    Column("owner", letters(36)),
    Column("lease_until", letters(32)),
    Index("ix_jobs_caller_id", "caller_id", "id"),
    Index("ix_jobs_finished_at", "finished_at"),
    Index("ix_jobs_state", "state"),
)
"""Calls that outlive their request. The caller and the token may be gone: a job keeps their names."""

job_parts = Table(
    "job_parts",
    METADATA,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("ids", letters(), nullable=False),
    Column("state", letters(16), nullable=False),
    Column("call_id", letters(36)),
    Column("uncertain", Integer, nullable=False),
    Column("linked", letters(), nullable=False),
    Column("problem", letters()),
    Index("ix_job_parts_state", "job_id", "state", "seq"),
    sqlite_with_rowid=False,
)
"""What each call of a job asks for and how it ended; IDs with commas between them."""

idempotency = Table(
    "idempotency",
    METADATA,
    Column("caller_id", letters(36), primary_key=True),
    Column("key_sha256", letters(64), primary_key=True),
    Column("fingerprint", letters(64), nullable=False),
    Column("created_at", letters(32), nullable=False),
    Column("call_id", letters(36)),
    Column("job_id", letters(36)),
    Column("uncertain", Integer, nullable=False),
    Column("answer", letters()),
    Index("ix_idempotency_created_at", "created_at"),
    sqlite_with_rowid=False,
)
"""What each key stands for: a call, with its answer once there is one, or a job. The key itself is the caller's own and not kept."""

bookmarks = Table(
    "bookmarks",
    METADATA,
    Column("name", letters(64), primary_key=True),
    Column("number", NUMBER, nullable=False),
    Column("moved_at", letters(32), nullable=False),
)
"""How far what one process does for all has come, so that another goes on from there. SQLite's are files beside it."""

schema_needs = Table(
    "schema_needs",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single"), primary_key=True),
    Column("revision", letters(32), nullable=False),
)
"""The oldest revision whose code may use this schema; code that knows it starts on a schema that is newer than its own."""
