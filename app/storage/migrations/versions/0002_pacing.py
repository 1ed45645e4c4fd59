"""What a token's lane trusts: `learned` or `proven`."""

import sqlalchemy as sa
from alembic import op

from app.storage.columns import letters

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the tokens that are there go on as before.

    The table isn't made anew: to drop the old one would take the grants of every token with it.
    """
    op.add_column("tokens", sa.Column("pacing", letters(16), nullable=False, server_default="learned"))
