"""Recording, in a process of its own: `python -m benchmarks.commits FOLDER TURNS CALLS COMMITS`.

It writes the records of calls, made before, in turns: through the gateway's writer and ledger, and through SQLAlchemy's ORM into the same
table, each record with a session and a commit of its own, as many at once or one after the other. `FOLDER/result.json` gets for each turn
of each way how many records were written, in how many seconds, with how many CPU seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase

from app.audit import GroupWriter, Ledger, Signer
from app.audit.chain import Head, Row, link
from app.audit.storing import last_number
from app.domain import new_id
from app.opening import open_state
from app.settings import Settings
from app.storage import DatabaseThread
from app.storage.tables import METADATA, audit_records
from app.telemetry import configure_logs
from benchmarks.journeys import RECORDS_OF_CALL, Journey, Journeys
from benchmarks.stage import OWN_VARIABLES
from benchmarks.upstream import FIRST_ORDER

__all__ = ["AT_ONCE", "GATEWAY", "ONE_BY_ONE", "ORM", "RESULT", "Turn"]

AT_ONCE = 64
RESULT = "result.json"
GATEWAY, ORM, ONE_BY_ONE = "gateway", "orm", "orm, one after the other"

Turn = tuple[int, float, float]
"""Records that were written, and the seconds and CPU seconds that this took."""


class Mapped(DeclarativeBase):
    """The product's own tables, mapped."""

    metadata = METADATA


class Stored(Mapped):
    """A record, as an application that uses the ORM would have it."""

    __table__ = audit_records


@dataclass(frozen=True)
class Ways:
    """The ways in which records are written, all into one database."""

    engine: AsyncEngine
    thread: DatabaseThread
    writer: GroupWriter
    journeys: Iterator[Journey]

    async def by_gateway(self, calls: int) -> Turn:
        """So many calls' records, with 64 calls under way at once."""
        journeys = list(islice(self.journeys, calls))
        return await _timed(RECORDS_OF_CALL * calls, [partial(self._record, journeys[place::AT_ONCE]) for place in range(AT_ONCE)])

    async def by_orm(self, commits: int, at_once: int) -> Turn:
        """So many records, each committed by itself; their places and hashes are known before."""
        last = await self.thread.run(lambda connection: last_number(connection.execute))
        rows, _ = link(Head(new_id()), list(islice(chain.from_iterable(self.journeys), commits)), last)
        return await _timed(commits, [partial(self._commit_each, rows[place::at_once]) for place in range(at_once)])

    async def _record(self, journeys: Sequence[Journey]) -> None:
        """Give each call's records as the gateway does, and wait for those that it waits for."""
        for intent, sending, sent, outcome in journeys:
            self.writer.put(intent)
            await self.writer.write(sending, required=True)
            self.writer.put(sent)
            await self.writer.write(outcome, required=False)

    async def _commit_each(self, rows: Sequence[Row]) -> None:
        for row in rows:
            async with AsyncSession(self.engine) as session:
                session.add(Stored(number=row.number, body=row.body, hash=row.hash))
                await session.commit()


async def main(folder: Path, turns: int, calls: int, commits: int) -> None:
    """Write in turns; the first turn of each way warms up."""
    found: dict[str, list[Turn]] = {GATEWAY: [], ORM: [], ONE_BY_ONE: []}
    async with _opened(folder) as ways:
        for _ in range(turns + 1):
            found[GATEWAY].append(await ways.by_gateway(calls))
            found[ORM].append(await ways.by_orm(commits, AT_ONCE))
            found[ONE_BY_ONE].append(await ways.by_orm(commits, 1))
    (folder / RESULT).write_text(json.dumps(found), encoding="ascii")


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[Ways]:
    """A new database, and the gateway's own writer and ledger on it."""
    async with open_state(Settings(_env_prefix=OWN_VARIABLES, state_dir=folder)) as (engine, _):
        thread = DatabaseThread(engine)
        ledger = Ledger(thread, Signer(bytes(range(32))))
        writer = GroupWriter(ledger)
        writer.start()
        try:
            yield Ways(engine, thread, writer, Journeys().records(count(FIRST_ORDER)))
        finally:
            await writer.aclose()
            await ledger.aclose()
            await thread.aclose()


async def _timed(records: int, clients: Sequence[Callable[[], Awaitable[None]]]) -> Turn:
    gc.collect()
    gc.freeze()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for client in clients))
    return records, time.perf_counter() - began, time.process_time() - cpu


if __name__ == "__main__":
    configure_logs("ERROR", as_json=False)
    gc.set_threshold(50_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
