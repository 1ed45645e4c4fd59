"""The tables. Times are UTC, in ISO 8601 with microseconds; IDs are UUIDv7 in text form."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = ["METADATA", "audit_records", "caller_keys", "callers", "grants", "revision", "sealed_keys", "tokens"]

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
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("rate", Integer, nullable=False),
    Column("burst", String(16), nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("value_hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", String(32), nullable=False),
    Column("rotated_at", String(32), nullable=False),
    Column("pacing", String(16), nullable=False, server_default="learned"),
    Column("declared", Integer, nullable=False, server_default="0"),
)

callers = Table(
    "callers",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16)),
    Column("weight", Integer, nullable=False),
    Column("rate", String(64)),
    Column("default_token_id", ForeignKey("tokens.id", ondelete="SET NULL")),
    Column("created_at", String(32), nullable=False),
    Column("enabled", Integer, nullable=False, server_default="1"),
    Column("declared", Integer, nullable=False, server_default="0"),
    Column("networks", Text, nullable=False, server_default="[]"),
    Column("origins", Text, nullable=False, server_default="[]"),
    Column("claims", Text, nullable=False, server_default="{}"),
)

caller_keys = Table(
    "caller_keys",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("caller_id", ForeignKey("callers.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("last_used_at", String(32)),
)

grants = Table(
    "grants",
    METADATA,
    Column("caller_id", ForeignKey("callers.id", ondelete="CASCADE"), primary_key=True),
    Column("token_id", ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("operations", Text),
)

sealed_keys = Table(
    "sealed_keys",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("key_id", String(64), nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

revision = Table(
    "revision",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="single"), primary_key=True),
    Column("number", Integer, nullable=False),
)


def _member(name: str) -> Column[str]:
    return Column(name, Text, Computed(f"json_extract(body, '$.{name}')", persisted=False))


audit_records = Table(
    "audit_records",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("body", Text, nullable=False),
    _member("id"),
    _member("name"),
    _member("request_id"),
    _member("caller"),
    _member("token"),
    _member("code"),
    UniqueConstraint("id"),
    Index("ix_audit_records_request_id", "request_id"),
    sqlite_autoincrement=True,
)
"""The record as it was written, canonical JSON in `body`; the other columns are read out of it by the database."""
