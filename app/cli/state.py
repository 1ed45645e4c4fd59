"""How commands reach the state: in short transactions of their own, also while a server runs."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from app.administration import Administration
from app.opening import open_state
from app.retention import Retention, open_retention
from app.settings import load_settings
from app.telemetry import configure_logs

__all__ = ["administer", "retain"]

T = TypeVar("T")


def administer(work: Callable[[Administration], Awaitable[T]]) -> T:
    """Open the state, do the work, close it.

    Raises:
        StartRefused, GatewayError
    """

    async def run() -> T:
        async with _administration() as administration:
            return await work(administration)

    return asyncio.run(run())


def retain(work: Callable[[Retention], Awaitable[T]]) -> T:
    """Open the state to remove old records from it, do the work, close it.

    Raises:
        StartRefused, ArchiveUnusable
    """

    async def run() -> T:
        async with _retention() as retention:
            return await work(retention)

    return asyncio.run(run())


@asynccontextmanager
async def _administration() -> AsyncIterator[Administration]:
    settings = load_settings()
    configure_logs("WARNING", as_json=False)
    async with open_state(settings) as (engine, keyring):
        yield Administration(engine, keyring, f"command:{_user()}")


@asynccontextmanager
async def _retention() -> AsyncIterator[Retention]:
    settings = load_settings()
    configure_logs("WARNING", as_json=False)
    async with (
        open_state(settings) as (engine, keyring),
        open_retention(engine, keyring, f"command:{_user()}", settings.audit_archive_dir) as retention,
    ):
        yield retention


def _user() -> str:
    """The operating system's name for who runs the command; a record holds Unicode only, so what isn't is a question mark in it."""
    try:
        return getpass.getuser().encode(errors="replace").decode()
    except (KeyError, OSError):
        return "unknown"
