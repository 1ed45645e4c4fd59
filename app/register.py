"""The record as the running gateway keeps it: opened before anything happens, closed when nothing more does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import AuditReader, GroupWriter, Ledger, Listener, Recovery, Signer, Spool, anchored, streamed
from app.recording import signer_of
from app.retention import SERVER, open_retention
from app.settings import Settings
from app.storage import Crowded, DatabaseThread, Lead, ReadingThread, leading, writing
from app.vault import Keyring

__all__ = ["Register", "open_register"]

Thread = TypeVar("Thread", bound=DatabaseThread)
CROWD_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Register:
    """Who writes records, who reads them, and what sees to them meanwhile; `lead`: whether this process does so for all."""

    writer: GroupWriter
    reader: AuditReader
    lead: Lead
    _settings: Settings
    _engine: AsyncEngine
    _keyring: Keyring
    _spool: Spool
    _ledger: Ledger
    _recovery: Recovery

    async def outcome(self, call_id: str) -> dict[str, Any] | None:
        """How a call ended; None: it was never taken in.

        Raises:
            OutcomeMissing: it was taken in, and its end isn't on record yet.
            SQLAlchemyError: the record can't be read.
        """
        while True:
            try:
                return await self.reader.outcome(call_id)
            except Crowded:
                await asyncio.sleep(CROWD_SECONDS)

    def held_since(self, moment: float) -> bool:
        """Whether no other process can have ended on record, since then (monotonic, in seconds), what this one has under way."""
        return self._settings.is_embedded or self._ledger.held_since(moment)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write, end what dead processes left, and remove what is past its retention, while the context lasts.

        What a dead process left in the spool comes first: it may be the outcomes that are missed otherwise. The writer goes on after the
        context's end, for what ends then, until it is closed.
        """
        self.writer.start()
        await self.writer.take_up(self._spool.left, self._ledger.begin_anew)
        self._spool.left = []
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._recovery.kept())
            if self._settings.audit_retention:
                pruning = open_retention(self._engine, self._keyring, SERVER, self._settings.audit_archive_dir)
                retention = await stack.enter_async_context(pruning)
                await stack.enter_async_context(retention.kept(self._settings.audit_retention, self.lead))
            yield


@asynccontextmanager
async def open_register(settings: Settings, engine: AsyncEngine, keyring: Keyring) -> AsyncIterator[Register]:
    """The record, opened but not yet written to; its chain is sealed and closed at the end.

    Raises:
        StartRefused: the spool, the stream or the signing key can't be used.
    """
    async with AsyncExitStack() as stack:
        # Whoever leads does so until its last checkpoint is handed on.
        lead = await stack.enter_async_context(leading(engine))
        # Those who hand records on hear of the last checkpoint too.
        listeners = await _open_listeners(stack, settings, engine, lead)
        spool = await asyncio.to_thread(Spool, settings.spool_file)
        stack.callback(spool.close)
        ledger = Ledger(_kept(stack, DatabaseThread(engine)), await _signer(engine, keyring), listeners)
        stack.push_async_callback(ledger.aclose)
        await stack.enter_async_context(ledger.kept())
        writer = GroupWriter(ledger, spool)
        # A lock file keeps other processes from SQLite's file, so that whoever else wrote is dead; on a server leases tell.
        recovery = Recovery(_kept(stack, DatabaseThread(engine)), ledger, writer.settled, alone=settings.is_embedded)
        reader = AuditReader(_kept(stack, ReadingThread(engine)))
        yield Register(writer, reader, lead, settings, engine, keyring, spool, ledger, recovery)


def _kept(stack: AsyncExitStack, thread: Thread) -> Thread:
    """Until the end. Each has its own: nobody waits for another's reading."""
    stack.push_async_callback(thread.aclose)
    return thread


async def _open_listeners(stack: AsyncExitStack, settings: Settings, engine: AsyncEngine, lead: Lead) -> tuple[Listener, ...]:
    anchoring = await stack.enter_async_context(anchored(settings.anchor_command, engine, settings.state_dir, lead))
    return *anchoring, *await stack.enter_async_context(streamed(settings.audit_stream, engine, settings.state_dir, lead))


async def _signer(engine: AsyncEngine, keyring: Keyring) -> Signer:
    async with writing(engine) as connection:
        return await signer_of(connection, keyring)
