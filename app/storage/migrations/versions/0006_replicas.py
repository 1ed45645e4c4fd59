"""Bookmarks, and what code may use a newer schema: several replicas on one database, of two versions during a rolling update.

From this migration on each is forward-safe, or says that it isn't. Forward-safe is one after which all statements of the version before
still do what they did: it makes tables, indexes, and columns that may be NULL or have a default, and changes or removes nothing. `needs` is
the oldest revision whose code may use the schema that it leaves: that of the migration before where it is forward-safe (or what that one
needs, if that is older and its code's statements are still kept and pass), its own revision where it isn't.

Before the next migration is written, `make statements` keeps the statements of the code as it was, in `tests/storage/statements`; a test
executes them on the newest schema.
"""

import sqlalchemy as sa
from alembic import op

from app.storage.columns import NUMBER, letters

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
needs = "0005"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "bookmarks",
        sa.Column("name", letters(64), primary_key=True),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("moved_at", letters(32), nullable=False),
    )
    op.create_table(
        "schema_needs",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1", name=op.f("ck_schema_needs_single")), primary_key=True, autoincrement=False
        ),
        sa.Column("revision", letters(32), nullable=False),
    )
    op.execute("INSERT INTO schema_needs (id, revision) VALUES (1, '0006')")
