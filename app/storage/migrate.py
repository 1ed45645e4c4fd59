"""Bringing a database to the newest schema, by Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import StartRefused
from app.storage.engine import writing

__all__ = ["known_schemas", "newest_schema", "schema_of", "upgrade"]

MIGRATIONS = Path(__file__).parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def upgrade(engine: AsyncEngine) -> None:
    """Apply the migrations that the database lacks, in one transaction; nothing is locked or written where there are none.

    Raises:
        StartRefused: the database was made by a newer version.
    """
    found = await schema_of(engine)
    if found == newest_schema():
        return
    if found is not None and found not in known_schemas():
        message = f"the database has schema {found}, which this version doesn't know: it was made by a newer one"
        raise StartRefused(message)
    async with writing(engine) as connection:
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))


async def schema_of(engine: AsyncEngine) -> str | None:
    """The newest migration that the database has; None for an empty one."""
    async with engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def known_schemas() -> set[str]:
    """All migrations that this code knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def newest_schema() -> str:
    """The newest migration that this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the migrations are part of the package"  # noqa: S101
    return head
