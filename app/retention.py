"""Retention: removing from the record what is old, in whole stretches, each archived, signed for and on record before it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Signer, Trusted, append
from app.audit.archive import ArchiveUnusable, Export
from app.audit.chain import Broken, Head
from app.audit.retention import Overtaken, bury, pruned, remove_some, unremoved
from app.audit.seals import Archived
from app.audit.stretches import Bounds, Remains, Stretch, Survey, bounds_of, buried
from app.background import kept_running
from app.recording import signer_of
from app.storage import Connection, DatabaseThread, Lead, within, writing
from app.vault import Keyring

__all__ = ["SERVER", "ArchiveUnusable", "Plan", "Pruning", "Removed", "Retention", "Spared", "open_retention"]

T = TypeVar("T")

YOUNGEST_HOURS = 2
READING_PAUSE_SECONDS = 0.002
REMOVING_PAUSE_SECONDS = 0.005
FIRST_SECONDS = 300.0
EVERY_SECONDS = 3_600.0
SERVER = "gateway:retention"
"""Who removes by itself, for the record."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Spared:
    """A chain of which nothing is removed, and why."""

    chain: str
    reason: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A stretch that is removed, and where it is archived, if it is."""

    stretch: Stretch
    archived: Archived | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go: these stretches. Of the spared chains nothing goes, since they aren't sound."""

    stretches: list[Stretch]
    spared: list[Spared]


@dataclass(frozen=True, slots=True)
class Pruning:
    """What went, and of which chains nothing did that should have."""

    removed: list[Removed]
    spared: list[Spared]


@asynccontextmanager
async def open_retention(engine: AsyncEngine, keyring: Keyring, by: str, archive: Path | None) -> AsyncIterator[Retention]:
    """Retention with a connection of its own.

    Args:
        engine: the database.
        keyring: opens the key that signs tombstones.
        by: who removes, as `how:name`, for the record.
        archive: the folder to which every stretch is exported first; None: nothing is exported.
    """
    thread = DatabaseThread(engine)
    try:
        yield Retention(engine, keyring, by, archive, thread)
    finally:
        await thread.aclose()


class Retention:
    """Removes the beginnings of chains."""

    def __init__(self, engine: AsyncEngine, keyring: Keyring, by: str, archive: Path | None, thread: DatabaseThread) -> None:
        self._engine = engine
        self._keyring = keyring
        self._by = by
        self._archive = archive
        self._thread = thread

    async def plan(self, before: datetime) -> Plan:
        """What may go of the records from before a time; changes nothing. What is younger than 2 hours is never among it.

        Raises:
            StartRefused: the signing key doesn't open with the master keys that are here.
            SQLAlchemyError: the database can't be read.
        """
        cut = min(before, datetime.now(UTC) - timedelta(hours=YOUNGEST_HOURS))
        signer, stretches, spared = await self._signer(), [], []
        for bounds in await self._do(lambda connection: bounds_of(connection.execute, cut)):
            try:
                stretch = await self._survey(bounds, Trusted(signer.public))
            except Broken as error:
                spared.append(Spared(bounds.chain, str(error)))
            else:
                stretches += [stretch] if stretch else []
        return Plan(stretches, spared)

    async def prune(self, plan: Plan) -> Pruning:
        """Remove what was planned, and what an interrupted run left.

        Each stretch is exported, if there is an archive, then signed for and on record, then removed bit by bit. It may be interrupted
        anywhere.

        Raises:
            ArchiveUnusable: the archive can't be written; what isn't in it stays.
            StartRefused: the signing key doesn't open with the master keys that are here.
            SQLAlchemyError: the database can't be written; the next run goes on.
        """
        unsound = await self._finish()
        removed, spared, kept = [], list(dict.fromkeys([*plan.spared, *unsound])), {one.chain for one in unsound}
        for stretch in plan.stretches:
            if stretch.chain in kept:
                continue
            try:
                archived = await self._export(stretch)
                await self._bury(stretch, archived)
            except (Broken, Overtaken) as error:
                spared.append(Spared(stretch.chain, str(error)))
                continue
            await self._remove(stretch.last)
            removed.append(Removed(stretch, archived))
        return Pruning(removed, spared)

    def kept(self, days: int, lead: Lead) -> AbstractAsyncContextManager[None]:
        """Remove what is older than so many days, while the context lasts: first after 5 minutes, then every hour.

        Whoever doesn't lead then leaves it to the process that does. Days are whole, from midnight to midnight UTC, so that a chain has one
        tombstone a day and not one an hour.
        """
        return kept_running(self._keep(days, lead))

    async def _keep(self, days: int, lead: Lead) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                if lead.leads:
                    _tell(await self.prune(await self.plan(_midnight(days))))
            except Exception:
                # The task's outermost edge: nothing is removed that shouldn't be, and the next hour tries again.
                log.exception("old audit records can't be removed; trying again in an hour")
            await asyncio.sleep(EVERY_SECONDS)

    async def _survey(self, bounds: Bounds, trusted: Trusted) -> Stretch | None:
        survey = Survey(bounds, await self._buried(bounds.chain, trusted), trusted)
        await self._repeat(lambda connection: survey.read_on(connection.execute), READING_PAUSE_SECONDS)
        return survey.found

    async def _export(self, stretch: Stretch) -> Archived | None:
        folder = self._archive
        if folder is None:
            return None
        export = Export(stretch, folder)
        try:
            await self._repeat(lambda connection: export.write_on(connection.execute), READING_PAUSE_SECONDS)
            return await self._do(lambda _: export.complete())
        finally:
            await self._do(lambda _: export.discard())

    async def _bury(self, stretch: Stretch, archived: Archived | None) -> None:
        async with writing(self._engine) as connection:
            signer = await signer_of(connection, self._keyring)
            tombstone = signer.tombstone(stretch.last, first=stretch.first, before=stretch.before, archived=archived)

            def bury_it(sync: SyncConnection) -> None:
                bury(within(sync).execute, stretch, tombstone)

            await connection.run_sync(bury_it)
            await append(connection, [pruned(self._by, stretch, archived)], signer)

    async def _finish(self) -> list[Spared]:
        """Remove what tombstones stand for already; gives the chains of which that, or what is left, isn't to be believed."""
        spared, trusted = [], Trusted((await self._signer()).public)
        for chain in await self._do(lambda connection: unremoved(connection.execute)):
            try:
                await self._remove(await self._left(chain, trusted))
            except Broken as error:
                spared.append(Spared(chain, str(error)))
        return spared

    async def _left(self, chain: str, trusted: Trusted) -> Head:
        """Up to where a chain may be removed on; what is left of that is sound."""
        remains = Remains(upto := await self._buried(chain, trusted), trusted)
        await self._repeat(lambda connection: remains.read_on(connection.execute), READING_PAUSE_SECONDS)
        return upto

    async def _buried(self, chain: str, trusted: Trusted) -> Head:
        return await self._do(lambda connection: buried(connection.execute, trusted, chain))

    async def _remove(self, upto: Head) -> None:
        await self._repeat(lambda connection: remove_some(connection, upto), REMOVING_PAUSE_SECONDS)

    async def _signer(self) -> Signer:
        async with writing(self._engine) as connection:
            return await signer_of(connection, self._keyring)

    async def _repeat(self, step: Callable[[Connection], bool], pause: float) -> None:
        """Do a step until it says that there is no more. Between two, others get the database's lock, and Python's."""
        while await self._do(step):
            await asyncio.sleep(pause)

    async def _do(self, work: Callable[[Connection], T]) -> T:
        """Do it in the thread; what it refuses is no defect there, and is raised here."""
        result = await self._thread.run(lambda connection: _tried(work, connection))
        if isinstance(result, ArchiveUnusable | Broken):
            raise result
        return result


def _tried(work: Callable[[Connection], T], connection: Connection) -> T | ArchiveUnusable | Broken:
    try:
        return work(connection)
    except (ArchiveUnusable, Broken) as refusal:
        return refusal


def _midnight(days: int) -> datetime:
    """The midnight, UTC, since when so many whole days have passed."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)


def _tell(pruning: Pruning) -> None:
    for one in pruning.removed:
        log.info("old audit records were removed", chain=one.stretch.chain, first=one.stretch.first, last=one.stretch.last.seq)
    for spared in pruning.spared:
        log.error("old audit records are kept, since their chain isn't sound", chain=spared.chain, reason=spared.reason)
