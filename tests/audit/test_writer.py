"""The group writer on a real database: in order, together, durable, never lost while it can be helped."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit import AuditLog, GroupWriter, Ledger, Name, Signer, append, list_records
from app.audit.records import Record
from app.audit.story import story_of
from app.dispatch import Settled
from app.domain import Linked
from app.errors import AuditUnavailable, ParameterMissing
from app.storage import DatabaseThread, reading, within, writing
from tests.calls import make_asked, make_call
from tests.records import administrative
from tests.storage.database import Hand

PATIENCE = 0.2
SIGNER = Signer(bytes(32))


@pytest_asyncio.fixture
async def store(engine: AsyncEngine) -> AsyncIterator[Ledger]:
    """Where the writer writes."""
    thread = DatabaseThread(engine)
    yield Ledger(thread, SIGNER)
    await thread.aclose()


@pytest_asyncio.fixture
async def writer(store: Ledger) -> AsyncIterator[GroupWriter]:
    """A running writer of little patience."""
    made = GroupWriter(store, patience=PATIENCE)
    made.start()
    yield made
    await made.aclose()


def record(subject: str) -> Record:
    """A record to tell from others."""
    return administrative(Name.TOKEN_ADDED, "test", subject)


async def subjects(engine: AsyncEngine) -> list[str]:
    """What is on record, oldest first, but for the chain's beginning."""
    async with reading(engine) as connection:
        found = await list_records(connection, limit=10_000)
    return [one.get("subject", one["name"]) for one in found[::-1] if one["name"] != Name.CHAIN_OPENED]


async def story(connection: AsyncConnection, reference: str) -> list[dict[str, Any]]:
    """What a record's or a request's ID leads to, oldest first."""
    found = await connection.run_sync(lambda sync: story_of(within(sync).execute, reference))
    return [one.members() for one in found.records]


async def test_what_was_written_is_on_disk(writer: GroupWriter, engine: AsyncEngine) -> None:
    """When `write` returns, another connection sees the record."""
    await writer.write(record("one"), required=True)

    assert await subjects(engine) == ["one"]


async def test_records_keep_the_order_in_which_they_were_given(writer: GroupWriter, engine: AsyncEngine) -> None:
    """Many at once are committed together, and none overtakes another."""
    names = [f"record-{number:04}" for number in range(2_500)]
    for name in names[:-1]:
        writer.put(record(name))
    await writer.write(record(names[-1]), required=False)
    await writer.settled()

    assert await subjects(engine) == names


async def test_a_required_record_that_can_not_be_written_is_withdrawn(writer: GroupWriter, engine: AsyncEngine) -> None:
    """While another process holds the database, `write` refuses in its patience, and the record doesn't come later."""
    locker = Hand(engine)
    locker.lock()
    writer.put(record("stuck"))
    await asyncio.sleep(0.05)
    with pytest.raises(AuditUnavailable):
        await writer.write(record("refused"), required=True)
    await writer.write(record("kept"), required=False)
    locker.let_go()
    locker.close()
    await writer.settled()

    assert await subjects(engine) == ["stuck", "kept"]
    assert writer.healthy


async def test_a_failing_store_is_tried_again(engine: AsyncEngine, store: Ledger) -> None:
    """A table that is missing for a while: unhealthy meanwhile, and nothing lost."""
    writer = GroupWriter(store, patience=PATIENCE)
    writer.start()
    aside = Hand(engine)
    aside.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
    await writer.write(record("early"), required=False)
    unhealthy = not writer.healthy
    aside.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")
    aside.close()
    await writer.settled()
    healthy = writer.healthy
    await writer.aclose()

    assert unhealthy
    assert healthy
    assert await subjects(engine) == ["early"]


async def test_what_is_lost_at_the_end_is_logged(
    store: Ledger, engine: AsyncEngine, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A writer that stops beside a dead store says what it couldn't write."""
    writer = GroupWriter(store, patience=PATIENCE)
    aside = Hand(engine)
    aside.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
    aside.close()
    writer.start()
    writer.put(record("the-lost-one"))
    await writer.aclose()

    assert "the-lost-one" in caplog.text + capsys.readouterr().out


async def test_a_full_backlog_refuses_what_is_required(store: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its bound the writer takes no more intents, so that memory is bounded."""
    monkeypatch.setattr("app.audit.writer.MOST_WAITING", 3)
    writer = GroupWriter(store, patience=PATIENCE)
    for number in range(3):
        writer.put(record(str(number)))

    with pytest.raises(AuditUnavailable):
        await writer.write(record("over"), required=True)


async def test_records_in_a_transaction_stand_or_fall_with_it(engine: AsyncEngine) -> None:
    """An administrative change and its record are one."""

    async def change() -> None:
        async with writing(engine) as connection:
            await append(connection, [record("undone")], SIGNER)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change()

    assert await subjects(engine) == []


async def test_refusals_before_authentication_are_sums(writer: GroupWriter, engine: AsyncEngine) -> None:
    """A flood of refused strangers makes one record each second, address and code, and a bounded number of them."""
    log = AuditLog(writer)
    for _ in range(500):
        log.count_refusal(address="10.0.0.1", caller=None, code="credentials-missing")
    for number in range(100):
        log.count_refusal(address=f"10.0.1.{number}", caller=None, code="credentials-invalid")
    log.count_refusal(address=None, caller=None, code="not-found")
    log.count_refusal(address="10.0.2.1", caller="order-service", code="role-required")
    log.flush()
    await log.settled()
    async with reading(engine) as connection:
        records = await list_records(connection, limit=100)

    counts = {(one["address"], one["code"]): one["count"] for one in records if one["name"] == Name.REFUSALS_COUNTED}
    assert counts == {
        ("10.0.0.1", "credentials-missing"): 500,
        **{(f"10.0.1.{number}", "credentials-invalid"): 1 for number in range(49)},
        ("other", "credentials-invalid"): 51,
        ("other", "not-found"): 1,
        ("10.0.2.1", "role-required"): 1,
    }


async def test_sums_are_written_by_themselves(writer: GroupWriter, engine: AsyncEngine) -> None:
    """Nobody needs to ask: a second later the sum is on record."""
    log = AuditLog(writer)
    log.count_refusal(address="10.0.0.1", caller=None, code="not-found")
    async with asyncio.timeout(5):
        while not await subjects(engine):
            await asyncio.sleep(0.05)

    assert await subjects(engine) == ["refusals:counted"]


class Groups:
    """A store that keeps how large each group was."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def append(self, records: Sequence[Record]) -> None:
        """Keep them."""
        self.sizes.append(len(records))

    async def probe(self) -> None:
        """It always works."""


@pytest.mark.parametrize(("at_once", "then"), [(2, [5]), (1, [1, 1, 1, 1, 1])])
async def test_in_a_crowd_the_next_commit_waits_to_be_larger(monkeypatch: pytest.MonkeyPatch, at_once: int, then: list[int]) -> None:
    """After a commit that two waited for, those that come one by one share the next; who is alone is committed at once."""
    monkeypatch.setattr("app.audit.writer.CROWD_SECONDS", 0.5)  # so that a busy machine doesn't part them
    store = Groups()
    writer = GroupWriter(store)
    writer.start()
    record = administrative(Name.TOKEN_ENABLED, "test:writer", "shop")
    await asyncio.gather(*(writer.write(record, required=True) for _ in range(at_once)))
    later = []
    for _ in range(5):
        later.append(asyncio.create_task(writer.write(record, required=True)))
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.gather(*later)
    await writer.aclose()

    assert store.sizes == [at_once, *then]


class Hanging:
    """A store whose commits never end."""

    async def append(self, _records: Sequence[Record]) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def probe(self) -> None:
        """The same."""
        await asyncio.Event().wait()


async def test_each_record_is_waited_for_as_long_as_the_patience_lasts() -> None:
    """One timer serves all, and yet who came later isn't told earlier, nor who came first later."""
    writer, loop = GroupWriter(Hanging(), patience=PATIENCE), asyncio.get_running_loop()
    writer.start()

    async def waited(*, required: bool) -> float:
        began = loop.time()
        with contextlib.suppress(AuditUnavailable):
            await writer.write(record("stuck"), required=required)
        return loop.time() - began

    first = asyncio.create_task(waited(required=True))
    await asyncio.sleep(PATIENCE / 2)
    second = asyncio.create_task(waited(required=False))
    took = await asyncio.gather(first, second)
    third = await waited(required=True)
    await writer.aclose()

    assert all(0.9 * PATIENCE <= seconds < 1.5 * PATIENCE for seconds in (*took, third))


async def test_the_record_is_canonical_json_and_its_columns_are_read_from_it(writer: GroupWriter, engine: AsyncEngine) -> None:
    """Sorted keys, no blanks, IDs as strings, whole milliseconds as whole numbers; reading by any column finds it."""
    log, call = AuditLog(writer), make_call(2**63 - 1, 5)
    await log.intent(call, at_once=False)
    linked = Linked((2**63 - 1,))
    await log.ended(call, linked, spent=Settled(linked, "send-1", 1, 0.002, 0.0015, uncertain=False))
    refusal = ParameterMissing("none")
    await log.refused(make_asked(call.caller), refusal, read=None, token=None)
    async with reading(engine) as connection:
        by_code = await list_records(connection, limit=5, code="ok", caller="service", token="shop")
        by_request = await story(connection, call.request_id)
        by_id = await story(connection, by_code[0]["id"])
        unknown = await story(connection, "nothing")
        bodies = (await connection.exec_driver_sql("SELECT body FROM audit_records")).scalars().all()

    assert all(body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False) for body in bodies)
    assert (by_code[0]["queue_ms"], by_code[0]["upstream_ms"]) == (2, 1.5)
    assert by_code[0]["linked_ids"] == [str(2**63 - 1)]
    assert [one["name"] for one in by_request] == ["call:intent", "call:outcome"]
    assert by_id == by_request
    assert unknown == []
