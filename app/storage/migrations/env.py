"""Alembic's entry: runs the migrations on the connection that `app.storage.migrate` hands over."""

from alembic import context

from app.storage.migrate import state_needs
from app.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True, on_version_apply=state_needs
)
with context.begin_transaction():
    context.run_migrations()
