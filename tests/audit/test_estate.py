"""What a dead process left in the spool: all of it comes on record first, and every call in it gets its end, and one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from app.audit import GroupWriter, Ledger, Spool
from app.audit.canonical import canonical
from app.audit.records import Record, refusals_counted
from tests.audit.deaths import Deaths, announced, ended, make_send, on, taken
from tests.calls import make_call
from tests.storage.database import hurry, locked, opened

PATIENCE = 0.2
MANY = 3


@pytest_asyncio.fixture
async def deaths(database: str) -> AsyncIterator[Deaths]:
    """Processes on a database of their own."""
    async with opened(database) as engine, on(engine) as made:
        yield made


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left takes many commits."""
    monkeypatch.setattr("app.audit.writer.LARGEST_GROUP", 10)


@pytest.fixture(autouse=True)
def _short_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked database is told soon."""
    hurry(monkeypatch)


@contextmanager
def spooled(folder: Path, *records: Record) -> Iterator[Spool]:
    """A spool that a dead process left with these."""
    spool = Spool(folder / "audit.spool")
    spool.keep([canonical(one.members) for one in records])
    spool.close()
    again = Spool(folder / "audit.spool")
    yield again
    again.close()


class Slow:
    """A ledger that writes one group, and the next when it is let go."""

    def __init__(self, ledger: Ledger) -> None:
        self.let_go = asyncio.Event()
        self._ledger = ledger
        self._begun = False

    async def append(self, records: Sequence[Record]) -> None:
        """Wait, but for the first time, and write."""
        if self._begun:
            await self.let_go.wait()
        self._begun = True
        await self._ledger.append(records)

    async def probe(self) -> None:
        """As the ledger."""
        await self._ledger.probe()


@asynccontextmanager
async def writing(store: Ledger | Slow, spool: Spool) -> AsyncIterator[GroupWriter]:
    """A process that starts, of little patience."""
    writer = GroupWriter(store, spool, patience=PATIENCE)
    writer.start()
    try:
        yield writer
    finally:
        await writer.aclose()


def sums(number: int) -> list[Record]:
    """So many records that are of no call."""
    return [refusals_counted(address="10.0.0.1", caller=None, code="not-found", count=1) for _ in range(number)]


def said(lines: list[MutableMapping[str, Any]]) -> list[tuple[str, str, int]]:
    """What the log says of what was left."""
    return [(one["log_level"], one["event"], one["waiting"]) for one in lines if "left in the spool" in one["event"]]


@pytest.mark.usefixtures("small_groups")
async def test_an_intent_behind_much_else_gets_its_outcome(deaths: Deaths, tmp_path: Path) -> None:
    """Also where the start waits for no more than the first of it: one outcome for each intent, and what is given meanwhile lives."""
    first, last, whole, living = (make_call(number) for number in range(1, 5))
    send, ledger = make_send(last), deaths.ledger()
    slow = Slow(ledger)
    with (
        spooled(tmp_path, *taken(first, whole), *sums(200), *taken(last), *announced(send), *ended(whole)) as spool,
        capture_logs() as lines,
    ):
        async with writing(slow, spool) as writer:
            await writer.take_up(spool.left, ledger.begin_anew)
            early = writer.healthy, writer.accepting
            writer.put(*taken(living))
            slow.let_go.set()
            await writer.settled()
            late = writer.healthy, writer.accepting
            await deaths.recovery(ledger).recover()

    assert (early, late) == ((False, False), (True, True))
    assert deaths.outcomes() == {first.id: 1, last.id: 1, whole.id: 1}
    assert [one["send_id"] for one in deaths.records("send:outcome")] == [send.id]
    assert [one["call_id"] for one in deaths.records("call:intent", ledger.chain)] == [living.id]
    assert said(lines) == [("warning", "what the last process left in the spool is still being written", 195)]


async def test_an_intent_that_is_left_beside_a_locked_database_gets_its_outcome(deaths: Deaths, tmp_path: Path) -> None:
    """The start isn't held up for longer than the patience; when the lock is gone it is written, its chain given up, and ended."""
    left, living, ledger = make_call(1), make_call(2), deaths.ledger()
    with spooled(tmp_path, *taken(left)) as spool, capture_logs() as lines:
        async with writing(ledger, spool) as writer:
            with locked(deaths.engine):
                await writer.take_up(spool.left, ledger.begin_anew)
                writer.put(*taken(living))
                early = writer.healthy, deaths.records()
            await writer.settled()
            await deaths.recovery(ledger).recover()

    assert early == (False, [])
    assert deaths.outcomes() == {left.id: 1}
    assert [one["call_id"] for one in deaths.records("call:intent")] == [left.id, living.id]
    assert [one["call_id"] for one in deaths.records("call:intent", ledger.chain)] == [living.id]
    assert said(lines) == [("error", "what the last process left in the spool can't be written yet", 1)]


async def test_a_chain_that_can_not_be_given_up_holds_back_what_lives(deaths: Deaths, tmp_path: Path) -> None:
    """What was left is written, then the database fails: that is tried until it works, and nothing living comes into that chain."""
    left, living, ledger = make_call(1), make_call(2), deaths.ledger()
    attempts = 0

    async def begin_anew() -> None:
        nonlocal attempts
        attempts += 1
        with locked(deaths.engine) if attempts <= MANY else nullcontext():
            await ledger.begin_anew()

    with spooled(tmp_path, *taken(left)) as spool:
        async with writing(ledger, spool) as writer:
            await writer.take_up(spool.left, begin_anew)
            writer.put(*taken(living))
            await writer.settled()
            await deaths.recovery(ledger).recover()

    assert attempts == MANY + 1
    assert deaths.outcomes() == {left.id: 1}
    assert [one["call_id"] for one in deaths.records("call:intent", ledger.chain)] == [living.id]


async def test_what_is_left_stays_where_the_process_ends_before_it_is_written(deaths: Deaths, tmp_path: Path) -> None:
    """An orderly end beside a locked database: the next process finds it, with what was given meanwhile, and nothing comes twice."""
    left, given = make_call(1), sums(1)
    with spooled(tmp_path, *taken(left)) as spool, locked(deaths.engine):
        ledger = deaths.ledger()
        async with writing(ledger, spool) as writer:
            await writer.take_up(spool.left, ledger.begin_anew)
            writer.put(given[0])
    again = Spool(tmp_path / "audit.spool")
    ledger = deaths.ledger()
    async with writing(ledger, again) as writer:
        await writer.take_up(again.left, ledger.begin_anew)
        await writer.settled()
        await deaths.recovery(ledger).recover()
    again.close()

    assert [one.id for one in again.left] == [*(one["id"] for one in deaths.records("call:intent")), given[0].id]
    assert deaths.outcomes() == {left.id: 1}
    assert [one["id"] for one in deaths.records("refusals:counted")] == [given[0].id]
