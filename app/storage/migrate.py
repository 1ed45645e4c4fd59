"""Bringing a database to the newest schema, by Alembic.

During a rolling update old code finds a schema that is newer than its own. It uses it where that says that it may.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import StartRefused
from app.storage.engine import patient, writing
from app.storage.tables import schema_needs

__all__ = ["known_schemas", "newest_schema", "require_usable", "schema_of", "schema_within", "state_needs", "upgrade"]

MIGRATIONS = Path(__file__).parent / "migrations"

LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's manual, appendix A."""

HOLDERS = """
SELECT pid FROM pg_locks JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid)
WHERE granted AND relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND pid <> pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY pid, xact_start ORDER BY xact_start NULLS FIRST LIMIT 5
"""
"""The longest first."""

log = structlog.get_logger(__name__)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def upgrade(engine: AsyncEngine, to: str = "head") -> None:
    """Apply the migrations that the database lacks, in one transaction; nothing is locked or written where there are none.

    A schema of a newer version is left as it is, where this version's code may use it.

    Args:
        engine: the database.
        to: the last of them.

    Raises:
        StartRefused: the database was made by a newer version, and this one's code may not use it; or others hold a table for over 5 s.
    """
    found = await schema_of(engine)
    if found == newest_schema():
        return
    if found is not None and found not in known_schemas():
        async with engine.connect() as connection:
            await connection.run_sync(require_usable, found)
        log.warning("the database has the schema of a newer version, which this one may use", schema=found, known=newest_schema())
        return
    try:
        async with patient(engine) as other, writing(other) as connection:
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), to))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise StartRefused(await _held(engine)) from error


async def _held(engine: AsyncEngine) -> str:
    """That the tables are in use, and by whom as far as that can still be told."""
    async with engine.connect() as connection:
        holders = (await connection.execute(text(HOLDERS))).scalars().all()
    by = f"pid {', '.join(map(str, holders))}" if holders else "another session"
    return f"GATEWAY_DATABASE_URL: the schema can't be brought further now, a table is held by {by}; nothing was changed, try again"


def require_usable(connection: Connection, found: str) -> None:
    """See that this code may use a schema that it doesn't know.

    Raises:
        StartRefused: it may not.
    """
    needs = _needs(connection)
    if needs not in known_schemas():
        message = (
            f"GATEWAY_DATABASE_URL: the database has schema {found}, which this version doesn't know: it was made by a newer one, "
            f"and may be used by versions that know {needs or found}; this one knows {newest_schema()}"
        )
        raise StartRefused(message)


def _needs(connection: Connection) -> str | None:
    """The oldest revision whose code may use the schema; None where that isn't said."""
    if not inspect(connection).has_table(schema_needs.name):
        return None
    return connection.execute(select(schema_needs.c.revision)).scalar()


def state_needs(ctx: MigrationContext, step: MigrationInfo, *_: Any, **__: Any) -> None:  # noqa: ANN401 - Alembic gives more than is wanted
    """Have the database say what the migration that was just applied needs; those before 0006 need their own, and say nothing."""
    assert ctx.connection is not None  # noqa: S101 - migrations are applied, never printed
    if needs := _needed(step.up_revision_id):
        ctx.connection.execute(update(schema_needs).values(revision=needs))


async def schema_of(engine: AsyncEngine) -> str | None:
    """The newest migration that the database has; None for an empty one."""
    async with engine.connect() as connection:
        return await connection.run_sync(schema_within)


def schema_within(connection: Connection) -> str | None:
    """The same, as a transaction sees it."""
    return MigrationContext.configure(connection).get_current_revision()


def _needed(revision: str | None) -> str | None:
    script = ScriptDirectory.from_config(_config()).get_revision(revision) if revision else None
    return getattr(script.module, "needs", None) if script else None


def known_schemas() -> set[str]:
    """All migrations that this code knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def newest_schema() -> str:
    """The newest migration that this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the migrations are part of the package"  # noqa: S101
    return head
