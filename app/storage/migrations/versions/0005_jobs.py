"""Jobs, their parts, and what keys of repeated requests stand for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("caller_id", sa.String(36), nullable=False),
        sa.Column("caller", sa.String(64), nullable=False),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("trace_id", sa.String(32)),
        sa.Column("address", sa.Text),
        sa.Column("origin", sa.Text),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("parameter", sa.Text, nullable=False),
        sa.Column("token_id", sa.String(36), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sa.Column("linked", sa.Integer, nullable=False),
        sa.Column("uncertain", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("started_at", sa.String(32)),
        sa.Column("finished_at", sa.String(32)),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(36)),
        sa.Column("lease_until", sa.String(32)),
    )
    op.create_index("ix_jobs_caller_id", "jobs", ["caller_id", "id"])
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "job_parts",
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", name="fk_job_parts_job_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("ids", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("call_id", sa.String(36)),
        sa.Column("uncertain", sa.Integer, nullable=False),
        sa.Column("linked", sa.Text, nullable=False),
        sa.Column("problem", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_parts_state", "job_parts", ["job_id", "state", "seq"])
    op.create_table(
        "idempotency",
        sa.Column("caller_id", sa.String(36), primary_key=True),
        sa.Column("key_sha256", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("call_id", sa.String(36)),
        sa.Column("job_id", sa.String(36)),
        sa.Column("uncertain", sa.Integer, nullable=False),
        sa.Column("answer", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
