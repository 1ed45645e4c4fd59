"""Jobs, their parts, and what keys of repeated requests stand for."""

import sqlalchemy as sa
from alembic import op

from app.storage.columns import letters

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", letters(36), primary_key=True),
        sa.Column("kind", letters(8), nullable=False),
        sa.Column("caller_id", letters(36), nullable=False),
        sa.Column("caller", letters(64), nullable=False),
        sa.Column("basis", letters(), nullable=False),
        sa.Column("credential_id", letters(), nullable=False),
        sa.Column("request_id", letters(), nullable=False),
        sa.Column("trace_id", letters(32)),
        sa.Column("address", letters()),
        sa.Column("origin", letters()),
        sa.Column("operation", letters(), nullable=False),
        sa.Column("parameter", letters(), nullable=False),
        sa.Column("token_id", letters(36), nullable=False),
        sa.Column("token", letters(64), nullable=False),
        sa.Column("priority", letters(16), nullable=False),
        sa.Column("state", letters(16), nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sa.Column("linked", sa.Integer, nullable=False),
        sa.Column("uncertain", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Integer, nullable=False),
        sa.Column("created_at", letters(32), nullable=False),
        sa.Column("started_at", letters(32)),
        sa.Column("finished_at", letters(32)),
        sa.Column("expires_at", letters(32), nullable=False),
        sa.Column("owner", letters(36)),
        sa.Column("lease_until", letters(32)),
    )
    op.create_index("ix_jobs_caller_id", "jobs", ["caller_id", "id"])
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "job_parts",
        sa.Column("job_id", letters(36), sa.ForeignKey("jobs.id", name="fk_job_parts_job_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("ids", letters(), nullable=False),
        sa.Column("state", letters(16), nullable=False),
        sa.Column("call_id", letters(36)),
        sa.Column("uncertain", sa.Integer, nullable=False),
        sa.Column("linked", letters(), nullable=False),
        sa.Column("problem", letters()),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_parts_state", "job_parts", ["job_id", "state", "seq"])
    op.create_table(
        "idempotency",
        sa.Column("caller_id", letters(36), primary_key=True),
        sa.Column("key_sha256", letters(64), primary_key=True),
        sa.Column("fingerprint", letters(64), nullable=False),
        sa.Column("created_at", letters(32), nullable=False),
        sa.Column("call_id", letters(36)),
        sa.Column("job_id", letters(36)),
        sa.Column("uncertain", sa.Integer, nullable=False),
        sa.Column("answer", letters()),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
