"""Keeping to the configuration file: at the start, on SIGHUP, and when one of its files changes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.background import hears, kept_running
from app.declaration.applying import Applied, apply
from app.declaration.reading import read_declaration
from app.declaration.sources import Sources
from app.errors import StartRefused
from app.vault import Keyring

__all__ = ["Keeper"]

LOOK_SECONDS = 0.25

log = structlog.get_logger(__name__)


class Keeper:
    """Brings tokens and callers to what the configuration file declares.

    Args:
        path: the file.
        engine: the database.
        keyring: seals the tokens' values.
        environ: the variables that the file may refer to.
        operations: the catalogue's.
    """

    def __init__(self, path: Path, engine: AsyncEngine, keyring: Keyring, environ: Mapping[str, str], operations: Collection[str]) -> None:
        self._path = path
        self._engine = engine
        self._keyring = keyring
        self._environ = environ
        self._operations = operations
        self._sources = Sources()
        self._decided = True

    async def apply(self) -> Applied:
        """Read the file and apply it.

        Raises:
            StartRefused: the file, or what it refers to, is wrong or in another's way; nothing was changed.
            sqlalchemy.exc.SQLAlchemyError: the database can't be written; nothing was changed.
        """
        self._sources = Sources()
        declaration = await asyncio.to_thread(read_declaration, self._path, self._sources, self._environ, self._operations)
        applied = await apply(self._engine, self._keyring, declaration)
        counts = {"tokens": applied.tokens, "callers": applied.callers, "changes": applied.changes}
        log.info("the configuration file was applied", file=str(self._path), **counts)
        return applied

    def watching(self, hangup: asyncio.Event) -> AbstractAsyncContextManager[None]:
        """Apply the file again, while the context lasts, at each `hangup` and when one of its files has changed.

        Where that fails, what was applied last stays, and an error in the log says why.
        """
        return kept_running(self._watch(hangup))

    async def _watch(self, hangup: asyncio.Event) -> None:
        while True:
            await self._look(asked=await hears(hangup, LOOK_SECONDS))

    async def _look(self, *, asked: bool) -> None:
        try:
            if await asyncio.to_thread(self._sources.changed) or asked or not self._decided:
                self._decided = True
                await self.apply()
        except StartRefused as error:
            log.error("the configuration file is wrong; going on as before", reason=str(error))  # noqa: TRY400 - the reason is all there is to know
        except Exception:
            # The task's outermost edge: what was applied last stays in force, and the next look tries again.
            self._decided = False
            log.exception("the configuration file can't be applied; going on as before")
