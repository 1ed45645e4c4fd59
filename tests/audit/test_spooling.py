"""The writer beside a store that is away: what happened is in the spool, nobody waits for ever, and it all comes on record."""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit import AuditLog, GroupWriter, Ledger, Name, Record, Signer, Spool, list_records
from app.audit.canonical import canonical
from app.domain import Send
from app.errors import AuditUnavailable
from app.storage import DatabaseThread, reading
from tests.calls import make_call
from tests.records import administrative
from tests.rig import until
from tests.storage.database import Hand, opened

PATIENCE = 0.2
SECONDS = 40
STRANGERS = 3
HALF_OF_A_PAIR = "\ud800"


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database."""
    async with opened(database) as made:
        yield made


@pytest_asyncio.fixture
async def ledger(engine: AsyncEngine) -> AsyncIterator[Ledger]:
    """A chain in it that hasn't begun."""
    thread = DatabaseThread(engine)
    yield Ledger(thread, Signer(bytes(32)))
    await thread.aclose()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An empty spool."""
    made = Spool(tmp_path / "audit.spool")
    yield made
    made.close()


@asynccontextmanager
async def writing_to(store: Ledger | Hanging, spool: Spool | Broken | Stuck, patience: float = PATIENCE) -> AsyncIterator[GroupWriter]:
    """A running writer, of little patience."""
    writer = GroupWriter(store, spool, patience=patience)
    writer.start()
    try:
        yield writer
    finally:
        await writer.aclose()


@contextmanager
def away(engine: AsyncEngine) -> Iterator[None]:
    """The records' table is missing, so that every commit fails at once."""
    aside = Hand(engine)
    aside.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
    try:
        yield
    finally:
        aside.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")
        aside.close()


def record(subject: str) -> Record:
    """A record to tell from others."""
    return administrative(Name.CALLER_ENABLED, "test", subject)


def subjects_in(path: Path) -> list[str]:
    """What a process that starts now would find in the spool."""
    spool = Spool(path)
    spool.close()
    return [str(one.members["subject"]) for one in spool.left]


async def subjects(engine: AsyncEngine) -> list[str]:
    """What is on record, oldest first, but for the chain's beginning."""
    async with reading(engine) as connection:
        found = await list_records(connection, limit=10_000)
    return [one["subject"] for one in found[::-1] if one["name"] != Name.CHAIN_OPENED]


class Hanging:
    """A store whose commits end when they are let go, and not before."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.taken: list[str] = []

    async def append(self, records: Sequence[Record]) -> None:
        """Wait."""
        await self.let_go.wait()
        self.taken += [str(one.members["subject"]) for one in records]

    async def probe(self) -> None:
        """The same."""
        await self.let_go.wait()


class Broken:
    """A spool on a disk that fails, until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.holds: list[str] = []

    @property
    def holds_any(self) -> bool:
        """Whether there is any."""
        return bool(self.holds)

    def keep(self, bodies: Sequence[bytes]) -> None:
        """Fail."""
        if not self.mended:
            raise OSError(errno.EIO, "Input/output error")
        self.holds += [json.loads(body)["subject"] for body in bodies]

    def clear(self) -> None:
        """It is only ever cleared when it works."""
        self.holds.clear()


class Counting(Spool):
    """A real spool that tells how many came at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sizes: list[int] = []

    def keep(self, bodies: Sequence[bytes]) -> None:
        """Keep them."""
        self.sizes.append(len(bodies))
        super().keep(bodies)


class SlowToEmpty(Spool):
    """A real spool whose emptying ends when it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.empties = Event()
        self.let_go = Event()

    def clear(self) -> None:
        """Wait, and empty it."""
        self.empties.set()
        self.let_go.wait()
        super().clear()


class Stuck:
    """A spool on a disk that doesn't answer, until it is let go."""

    holds_any = False

    def __init__(self) -> None:
        self.let_go = Event()

    def keep(self, _bodies: Sequence[bytes]) -> None:
        """Wait."""
        self.let_go.wait()

    def clear(self) -> None:
        """Nothing is in it."""


async def test_an_outcome_that_the_store_does_not_take_is_in_the_spool(
    ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path
) -> None:
    """`write` returns when it is there; the writer isn't healthy until the store has it, and then the spool is empty."""
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            await writer.write(record("happened"), required=False)
            spooled, healthy_meanwhile = subjects_in(tmp_path / "audit.spool"), writer.healthy
        await writer.settled()
        healthy_then = writer.healthy
        await until(lambda: _is_empty(spool))

    assert (spooled, healthy_meanwhile, healthy_then) == (["happened"], False, True)
    assert await subjects(engine) == ["happened"]
    assert subjects_in(tmp_path / "audit.spool") == []


async def _is_empty(spool: Spool) -> bool:
    return not spool.holds_any


async def test_what_is_required_never_counts_as_durable_in_the_spool(
    ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path
) -> None:
    """A send whose record is in the spool alone must not go out: it is refused, and the record is nowhere."""
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            writer.put(record("happened"))
            with pytest.raises(AuditUnavailable):
                await writer.write(record("announced"), required=True)
            # An attempt that is under way has begun before the refusal, and could succeed if the table came back.
            await ledger._thread.run(lambda _: None)
            spooled = subjects_in(tmp_path / "audit.spool")
        await writer.settled()

    assert spooled == ["happened"]
    assert await subjects(engine) == ["happened"]


async def test_they_come_on_record_in_the_order_in_which_they_were_given(ledger: Ledger, engine: AsyncEngine, spool: Spool) -> None:
    """Whether they were waited for or not, and whatever reached the spool first."""
    names = [f"record-{number:03}" for number in range(100)]
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            for name in names[::2]:
                writer.put(record(name))
                await writer.write(record(names[names.index(name) + 1]), required=False)
        await writer.settled()

    assert await subjects(engine) == names


async def test_a_commit_that_hangs_keeps_no_answer_back(spool: Spool, tmp_path: Path) -> None:
    """Nothing says that the store is away, it only never answers: the outcome goes to the spool, the intent is refused."""
    store = Hanging()
    async with writing_to(store, spool) as writer:
        writer.put(record("stuck"))
        refused = asyncio.create_task(writer.write(record("announced"), required=True))
        await writer.write(record("happened"), required=False)
        with pytest.raises(AuditUnavailable):
            await refused
        spooled, healthy_meanwhile = subjects_in(tmp_path / "audit.spool"), writer.healthy
        store.let_go.set()
        await writer.settled()
        healthy_then = writer.healthy

    assert spooled == ["stuck", "happened"]
    assert (healthy_meanwhile, healthy_then) == (False, True)
    assert [name for name in store.taken if name != "announced"] == ["stuck", "happened"]


async def test_a_writer_that_ends_beside_a_dead_store_leaves_all_in_the_spool(
    ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path
) -> None:
    """Also what came last of all; the next process writes it, with the IDs and times that it had, and nothing twice."""
    given = [record("first"), record("last")]
    with away(engine):
        async with writing_to(ledger, spool) as writer:
            await writer.write(given[0], required=False)
            writer.put(given[1])
    again = Spool(tmp_path / "audit.spool")
    async with writing_to(ledger, again) as writer:
        await ledger.append(given[:1])
        await writer.take_up(again.left, ledger.begin_anew)
        healthy = writer.healthy
    again.close()
    async with reading(engine) as connection:
        found = (await list_records(connection, limit=10))[::-1]

    assert healthy
    assert [(one["id"], one["at"]) for one in found[1:]] == [(one.id, one.members["at"]) for one in given]
    assert subjects_in(tmp_path / "audit.spool") == []


async def test_what_was_left_waits_for_a_store_that_is_away_at_the_start_too(ledger: Ledger, engine: AsyncEngine, spool: Spool) -> None:
    """The start isn't held up for longer than the patience; it isn't healthy until all is written."""
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            await writer.take_up([record("left")], ledger.begin_anew)
            meanwhile = writer.healthy, writer.accepting
        await writer.settled()
        then = writer.healthy, writer.accepting

    assert (meanwhile, then) == ((False, False), (True, True))
    assert await subjects(engine) == ["left"]


async def test_a_spool_that_fails_keeps_no_answer_back(ledger: Ledger, engine: AsyncEngine) -> None:
    """Then the record stands in the log, once, and in memory; it comes on record, and the spool is used again when it works."""
    spool = Broken()
    with capture_logs() as lines:
        async with writing_to(ledger, spool) as writer:
            with away(engine):
                await writer.write(record("in-memory-alone"), required=False)
                await writer.write(record("another"), required=False)
                spool.mended = True
                await until(lambda: _holds(spool, ["in-memory-alone", "another"]))
            await writer.settled()
    logged = [one["subject"] for line in lines for one in line.get("records", [])]

    assert logged == ["in-memory-alone", "another"]
    assert await subjects(engine) == ["in-memory-alone", "another"]


async def _holds(spool: Broken, subjects: list[str]) -> bool:
    return spool.holds == subjects


async def test_a_spool_that_hangs_keeps_no_answer_back(ledger: Ledger, engine: AsyncEngine) -> None:
    """The answer goes out after the patience, those after it too, and the records come when the store is back."""
    spool = Stuck()
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            await writer.write(record("first"), required=False)
            await writer.write(record("second"), required=False)
        await writer.settled()
        spool.let_go.set()

    assert await subjects(engine) == ["first", "second"]


async def test_what_neither_store_nor_spool_took_is_logged_at_the_end(ledger: Ledger, engine: AsyncEngine) -> None:
    """The log is the last place that there is."""
    with away(engine), capture_logs() as lines:
        async with writing_to(ledger, Broken()) as writer:
            writer.put(record("the-lost-one"))

    assert [one["subject"] for line in lines if "lost" in line for one in line["records"]] == ["the-lost-one"]


@pytest.mark.parametrize("required", [True, False])
async def test_a_wait_that_is_cancelled_loses_no_record(
    ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path, *, required: bool
) -> None:
    """A caller hangs up while its record waits for a store that is away: it is in the spool, and then on record."""
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            leaving = asyncio.create_task(writer.write(record("left alone"), required=required))
            await asyncio.sleep(0)
            leaving.cancel()
            await until(lambda: _spooled(tmp_path, "left alone"))
        await writer.settled()

    assert leaving.cancelled()
    assert await subjects(engine) == ["left alone"]


async def _spooled(folder: Path, subject: str) -> bool:
    return subject in subjects_in(folder / "audit.spool")


async def test_a_record_that_can_not_be_written_keeps_no_other_back(ledger: Ledger, engine: AsyncEngine, spool: Spool) -> None:
    """What has no canonical form is left out, counted, and in the log; where it was required, it is refused."""
    with capture_logs() as lines:
        async with writing_to(ledger, spool, patience=30) as writer:
            await _give_poison(writer)
            await writer.settled()
            healthy, set_aside = writer.healthy, writer.set_aside

    assert (healthy, set_aside) == (True, 2)
    assert await subjects(engine) == ["before", "after"]
    assert sorted(_left_out(lines)) == ["unwritable", "unwritable-too"]


async def test_a_record_that_can_not_be_written_keeps_no_other_out_of_the_spool(
    ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path
) -> None:
    """While the store is away it is left out likewise."""
    with capture_logs() as lines:
        async with writing_to(ledger, spool) as writer:
            with away(engine):
                await _give_poison(writer)
                spooled = subjects_in(tmp_path / "audit.spool")
            await writer.settled()

    assert spooled == ["before", "after"]
    assert await subjects(engine) == ["before", "after"]
    assert _left_out(lines) == ["unwritable-too"]


def _left_out(lines: list[MutableMapping[str, Any]]) -> list[str]:
    found = [re.search(r"'subject': '([a-z-]+)-", line["record"]) for line in lines if "is left out" in line["event"]]
    return [one[1] for one in found if one]


async def _give_poison(writer: GroupWriter) -> None:
    writer.put(record("before"))
    refused = asyncio.create_task(writer.write(record(f"unwritable-{HALF_OF_A_PAIR}"), required=True))
    writer.put(record(f"unwritable-too-{HALF_OF_A_PAIR}"))
    await writer.write(record("after"), required=False)
    with pytest.raises(AuditUnavailable):
        await refused


async def test_what_was_refused_and_comes_on_record_all_the_same_has_its_end_there(
    ledger: Ledger, engine: AsyncEngine, spool: Spool
) -> None:
    """A commit outlasts the patience and succeeds: the intents of the call that was refused, and of its send, don't stand open."""
    call, locker = make_call(1), Hand(engine)
    send = Send(attempt=1, lane="lane-1", ids=(1,), calls=(call,), released=0.0)
    async with writing_to(ledger, spool) as writer:
        log = AuditLog(writer)
        locker.lock()
        with pytest.raises(AuditUnavailable):
            await asyncio.gather(log.intent(call, at_once=False), log.sending(send))
        locker.close()
        await until(lambda: _have_their_ends(engine))
    async with reading(engine) as connection:
        records = (await list_records(connection, limit=10))[::-1]

    assert [(one["name"], one.get("code"), one.get("result")) for one in records[1:]] == [
        ("call:intent", None, None),
        ("send:intent", None, None),
        ("call:outcome", "audit-unavailable", None),
        ("send:outcome", None, "not-sent"),
    ]


async def _have_their_ends(engine: AsyncEngine) -> bool:
    async with reading(engine) as connection:
        return len(await list_records(connection, limit=10)) == 5


async def test_refusals_are_summed_up_while_the_store_is_away(
    ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes and whoever is refused: nothing of them waits or is spooled; then one sum each comes on record."""
    monkeypatch.setattr("app.audit.log.COUNTING_SECONDS", 0.0)
    async with writing_to(ledger, spool) as writer:
        log = AuditLog(writer)
        with away(engine):
            await writer.write(record("happened"), required=False)
            for _ in range(SECONDS):
                for number in range(STRANGERS):
                    log.count_refusal(address=f"10.0.0.{number}", caller=None, code="credentials-missing")
                await asyncio.sleep(0)
            spooled = subjects_in(tmp_path / "audit.spool")
        await until(lambda: _any_sum(engine))
        await writer.settled()

    assert spooled == ["happened"]
    assert sorted(await _sums(engine)) == sorted((f"10.0.0.{number}", SECONDS) for number in range(STRANGERS))


async def _sums(engine: AsyncEngine) -> list[tuple[str, int]]:
    async with reading(engine) as connection:
        found = await list_records(connection, limit=1_000)
    return [(one["address"], one["count"]) for one in found if one["name"] == Name.REFUSALS_COUNTED]


async def _any_sum(engine: AsyncEngine) -> bool:
    return bool(await _sums(engine))


async def test_what_was_summed_up_is_spooled_at_the_end(ledger: Ledger, engine: AsyncEngine, spool: Spool, tmp_path: Path) -> None:
    """An orderly end beside a dead store: the sums are kept as records like all others."""
    with away(engine):
        async with writing_to(ledger, spool) as writer:
            await writer.write(record("happened"), required=False)
            log = AuditLog(writer)
            log.count_refusal(address="10.0.0.1", caller=None, code="not-found")
            log.flush()
    left = Spool(tmp_path / "audit.spool")
    left.close()

    assert [one.name for one in left.left] == [Name.CALLER_ENABLED, Name.REFUSALS_COUNTED]


async def test_many_records_are_spooled_in_groups_and_encoded_once_and_not_on_the_loop(
    ledger: Ledger, engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come at once, the loop does other work meanwhile, and those that are spooled first are durable first."""
    monkeypatch.setattr("app.audit.spooling.LARGEST_GROUP", 10)
    spool, loop, encoded = Counting(tmp_path / "counting.spool"), get_ident(), []

    def encode(members: Mapping[str, object]) -> bytes:
        encoded.append((members["subject"], get_ident() == loop))
        return canonical(members)

    monkeypatch.setattr("app.audit.spooling.canonical", encode)
    names = [f"record-{number:03}" for number in range(95)]
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            await writer.write(record("first"), required=False)
            await asyncio.gather(*(writer.write(record(name), required=False) for name in names))
        await writer.settled()
    spool.close()

    assert encoded == [(name, False) for name in ["first", *names]]
    assert spool.sizes == [1, *[10] * 9, 5]


async def test_a_spool_that_fails_keeps_none_of_many_back(ledger: Ledger, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those either that would have come with a later group."""
    monkeypatch.setattr("app.audit.spooling.LARGEST_GROUP", 2)
    async with writing_to(ledger, Broken()) as writer:
        with away(engine):
            await asyncio.gather(*(writer.write(record(f"record-{number}"), required=False) for number in range(7)))
            waiting = not writer.healthy
        await writer.settled()

    assert waiting
    assert await subjects(engine) == [f"record-{number}" for number in range(7)]


async def test_a_spool_whose_emptying_hangs_keeps_no_answer_back(ledger: Ledger, engine: AsyncEngine, tmp_path: Path) -> None:
    """The store fails again meanwhile: the answer goes out after the patience, and its record comes when the store is back."""
    spool = SlowToEmpty(tmp_path / "slow.spool")
    async with writing_to(ledger, spool) as writer:
        with away(engine):
            await writer.write(record("first"), required=False)
        await writer.settled()
        await asyncio.to_thread(spool.empties.wait)
        with away(engine):
            await writer.write(record("second"), required=False)
        spool.let_go.set()
        await writer.settled()
    spool.close()

    assert await subjects(engine) == ["first", "second"]
