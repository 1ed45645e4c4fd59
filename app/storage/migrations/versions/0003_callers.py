"""Who may call, from where, until when, and what the configuration file declares."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from app.storage.columns import letters

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS: dict[str, list[sa.Column[Any]]] = {
    "tokens": [sa.Column("declared", sa.Integer, nullable=False, server_default="0")],
    "callers": [
        sa.Column("enabled", sa.Integer, nullable=False, server_default="1"),
        sa.Column("declared", sa.Integer, nullable=False, server_default="0"),
        sa.Column("networks", letters(), nullable=False, server_default="[]"),
        sa.Column("origins", letters(), nullable=False, server_default="[]"),
        sa.Column("claims", letters(), nullable=False, server_default="{}"),
    ],
    "caller_keys": [
        sa.Column("expires_at", letters(32)),
        sa.Column("last_used_at", letters(32)),
    ],
}


def upgrade() -> None:
    """Add the columns; callers that are there may go on calling from everywhere, with keys that don't expire."""
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
