"""Tokens, callers with their keys and grants, sealed keys, the audit record."""

import sqlalchemy as sa
from alembic import op

from app.storage.columns import letters

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "tokens",
        sa.Column("id", letters(36), primary_key=True),
        sa.Column("name", letters(64), nullable=False),
        sa.Column("kind", letters(16), nullable=False),
        sa.Column("rate", sa.Integer, nullable=False),
        sa.Column("burst", letters(16), nullable=False),
        sa.Column("enabled", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("key_id", letters(64), nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("value_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at", letters(32), nullable=False),
        sa.Column("rotated_at", letters(32), nullable=False),
        sa.UniqueConstraint("name", name="uq_tokens_name"),
        sa.UniqueConstraint("value_hash", name="uq_tokens_value_hash"),
    )
    op.create_table(
        "callers",
        sa.Column("id", letters(36), primary_key=True),
        sa.Column("name", letters(64), nullable=False),
        sa.Column("role", letters(16)),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("rate", letters(64)),
        sa.Column(
            "default_token_id",
            letters(36),
            sa.ForeignKey("tokens.id", name="fk_callers_default_token_id", ondelete="SET NULL"),
        ),
        sa.Column("created_at", letters(32), nullable=False),
        sa.UniqueConstraint("name", name="uq_callers_name"),
    )
    op.create_table(
        "caller_keys",
        sa.Column("id", letters(16), primary_key=True),
        sa.Column(
            "caller_id",
            letters(36),
            sa.ForeignKey("callers.id", name="fk_caller_keys_caller_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("created_at", letters(32), nullable=False),
    )
    op.create_index("ix_caller_keys_caller_id", "caller_keys", ["caller_id"])
    op.create_table(
        "grants",
        sa.Column(
            "caller_id",
            letters(36),
            sa.ForeignKey("callers.id", name="fk_grants_caller_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "token_id",
            letters(36),
            sa.ForeignKey("tokens.id", name="fk_grants_token_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("operations", letters()),
    )
    op.create_table(
        "sealed_keys",
        sa.Column("name", letters(64), primary_key=True),
        sa.Column("key_id", letters(64), nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name=op.f("ck_revision_single")), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.execute("INSERT INTO revision (id, number) VALUES (1, 1)")
    if op.get_bind().dialect.name == "sqlite":
        # Made anew by 0004; when that came no database was a PostgreSQL one.
        _create_audit_records()


def _create_audit_records() -> None:
    members = ("id", "name", "request_id", "caller", "token", "code")
    op.create_table(
        "audit_records",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("body", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, sa.Computed(f"json_extract(body, '$.{name}')", persisted=False)) for name in members),
        sa.UniqueConstraint("id", name="uq_audit_records_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_records_request_id", "audit_records", ["request_id"])
