"""Databases with a long past, made by the product's own ledger in groups as large as its writer's largest."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

from app.audit import Ledger, Record, Signer
from app.opening import open_state
from app.settings import Settings
from app.storage import DatabaseThread, writing
from app.vault import CHECKPOINT_SIGNING, own_key
from benchmarks.journeys import RECORDS_OF_CALL, Journeys
from benchmarks.stage import OWN_VARIABLES, PREPARING
from benchmarks.upstream import FIRST_ORDER

__all__ = ["RECORDS_OF_ORDER", "History", "kept"]

GROUP = 5_000
BLOCK = 2_000
"""So many orders are asked for one after the other, and then once more."""
TIMES = 2
RECORDS_OF_ORDER = TIMES * RECORDS_OF_CALL
CALLERS, TOKENS = 20, 5


@dataclass
class History:
    """A database that grows.

    Args:
        path: its file.
        ledger: what writes it.
    """

    path: Path
    ledger: Ledger
    records: Iterator[Record]
    length: int = 0

    async def grow(self, length: int) -> None:
        """Have so many records of calls in it, all checkpointed into the database's own file."""
        writing = asyncio.create_task(asyncio.sleep(0))
        while self.length < length:
            group = list(islice(self.records, min(GROUP, length - self.length)))
            await writing  # so that the next are made while these are written
            writing = asyncio.create_task(self.ledger.append(group))
            self.length += len(group)
        await writing
        await self.ledger.checkpoint()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def orders(self) -> range:
        """The orders that are told of by as many records each as there ever will be."""
        blocks = self.length // (BLOCK * RECORDS_OF_ORDER)
        return range(FIRST_ORDER, FIRST_ORDER + blocks * BLOCK)

    def drop_cache(self) -> None:
        """Have the system forget what it keeps of the file in memory: who reads it next reads the disk."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


@asynccontextmanager
async def kept(state_dir: Path) -> AsyncIterator[History]:
    """An empty one."""
    settings = Settings(_env_prefix=OWN_VARIABLES, state_dir=state_dir)
    async with AsyncExitStack() as stack:
        async with PREPARING:
            engine, keyring = await stack.enter_async_context(open_state(settings))
        async with writing(engine) as connection:
            signer = Signer(await own_key(connection, keyring, CHECKPOINT_SIGNING))
        thread = DatabaseThread(engine)
        stack.push_async_callback(thread.aclose)
        ledger = Ledger(thread, signer)
        stack.push_async_callback(ledger.aclose)
        yield History(settings.database_path, ledger, chain.from_iterable(Journeys(CALLERS, TOKENS).records(_orders())))


def _orders() -> Iterator[int]:
    """Each order of a block, then each once more, then the next block."""
    for first in count(FIRST_ORDER, BLOCK):
        for _ in range(TIMES):
            yield from range(first, first + BLOCK)
