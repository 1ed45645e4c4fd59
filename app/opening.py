"""Opening the state that the server and the commands share: folder, database, master keys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import StartRefused
from app.recording import seal_old_records
from app.settings import Environment, Settings
from app.storage import open_engine, reading
from app.storage.migrate import upgrade
from app.storage.tables import sealed_keys
from app.vault import Keyring, load_keyring

__all__ = ["may_make_key", "open_database", "open_state", "unusable"]


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """The database, made where it is missing and brought to the newest schema.

    Raises:
        StartRefused: the folder or the database can't be used.
    """
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        message = f"GATEWAY_STATE_DIR: {settings.state_dir} can't be made: {error}"
        raise StartRefused(message) from error
    engine = open_engine(settings.database)
    try:
        if settings.is_embedded:
            _make_private(settings)
        await _upgrade(engine, settings)
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_state(settings: Settings) -> AsyncIterator[tuple[AsyncEngine, Keyring]]:
    """The database and the master keys.

    A key is made only where no token is sealed yet, and never in production.

    Raises:
        StartRefused: the folder, the database or the keys can't be used.
    """
    async with open_database(settings) as engine:
        given = settings.master_keys.get_secret_value() if settings.master_keys else None
        keyring = load_keyring(given, settings.keys_file, may_make=await may_make_key(engine, settings))
        await seal_old_records(engine, keyring)
        yield engine, keyring


async def may_make_key(engine: AsyncEngine, settings: Settings) -> bool:
    """Whether a master key may be made where there is none: it would open nothing of what is sealed already."""
    async with reading(engine) as connection:
        holds_secrets = (await connection.execute(select(func.count()).select_from(sealed_keys))).scalar_one() > 0
    return settings.environment is not Environment.PRODUCTION and settings.master_keys_file is None and not holds_secrets


def _make_private(settings: Settings) -> None:
    """The database's file is its owner's alone; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(settings.database_path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        message = f"GATEWAY_DATABASE_URL: {settings.database_path} can't be used: {error}"
        raise StartRefused(message) from error


async def _upgrade(engine: AsyncEngine, settings: Settings) -> None:
    try:
        await upgrade(engine)
    except SQLAlchemyError as error:
        raise StartRefused(unusable(settings, error)) from error


def unusable(settings: Settings, error: SQLAlchemyError) -> str:
    """What is said where the database refuses."""
    database = f"the database of {settings.state_dir}" if settings.is_embedded else "the database"
    return f"GATEWAY_DATABASE_URL: {database} can't be used: {error.__cause__ or error}"
