"""`db`: the database's schema."""

from __future__ import annotations

import asyncio

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StartRefused
from app.opening import open_database, unusable
from app.settings import load_settings
from app.storage import open_engine
from app.storage.migrate import newest_schema, schema_of
from app.telemetry import configure_logs

__all__ = ["group"]

group = typer.Typer(help="The database's schema.", no_args_is_help=True)


@group.command()
def upgrade() -> None:
    """Bring the database to the newest schema, as `serve` does at its start. One that a newer version brought further stays so."""
    configure_logs("INFO", as_json=False)

    async def run() -> str | None:
        async with open_database(load_settings()) as engine:
            return await schema_of(engine)

    print(f"the database has schema {asyncio.run(run())}")


@group.command()
def current() -> None:
    """Say which schema the database has."""

    async def run() -> str | None:
        settings = load_settings()
        if settings.is_embedded and not settings.database_path.exists():
            return None
        engine = open_engine(settings.database)
        try:
            return await schema_of(engine)
        except SQLAlchemyError as error:
            raise StartRefused(unusable(settings, error)) from error
        finally:
            await engine.dispose()

    print(f"the database has schema {asyncio.run(run()) or 'none'}; the newest is {newest_schema()}")
