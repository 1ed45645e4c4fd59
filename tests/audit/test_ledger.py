"""A process's chain, in a real database: continuous through failures and other writers, sealed when that is due."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Name, Record, Signer, Trusted, append
from app.audit.chain import ADMINISTRATION, GENESIS, Head, next_hash
from app.storage import DatabaseThread, writing
from tests.limits import no_file_larger_than
from tests.records import administrative
from tests.storage.database import ON_SQLITE, Hand, by_hand


def records(count: int) -> list[Record]:
    """Records to tell from others."""
    return [administrative(Name.TOKEN_ADDED, "test", str(number)) for number in range(count)]


def stored(engine: AsyncEngine, chain: str) -> list[tuple[dict[str, object], bytes, bytes]]:
    """A chain's records in their order: the members, the body, the hash."""
    with by_hand(engine) as connection:
        rows = connection.execute("SELECT body, hash FROM audit_records WHERE chain = ? ORDER BY number", (chain,)).fetchall()
    return [(json.loads(body), body.encode(), digest) for body, digest in rows]


def checkpoints(engine: AsyncEngine, chain: str) -> list[tuple[bytes, bytes]]:
    """A chain's checkpoints, in their order: the body and the signature."""
    with by_hand(engine) as connection:
        query = "SELECT body, signature FROM audit_checkpoints WHERE chain = ? ORDER BY seq"
        return [(body.encode(), signature) for body, signature in connection.execute(query, (chain,))]


def assert_continuous(engine: AsyncEngine, chain: str, length: int) -> None:
    """Every record of the chain stands in its place and follows from the one before."""
    found, last = stored(engine, chain), GENESIS
    for place, (members, body, digest) in enumerate(found, start=1):
        last = next_hash(last, body)
        assert (members["chain"], members["seq"], digest) == (chain, place, last)
    assert len(found) == length


async def test_a_chain_begins_with_its_first_record(ledger: Ledger, engine: AsyncEngine) -> None:
    """Nothing is there before; then the opening record stands before what was written."""
    before = stored(engine, ledger.chain)
    await ledger.append(records(2))

    assert before == []
    assert [members["name"] for members, _, _ in stored(engine, ledger.chain)] == ["chain:opened", "token:added", "token:added"]
    assert_continuous(engine, ledger.chain, 3)


async def test_a_new_chain_names_the_heads_of_those_that_are_there(
    ledger: Ledger, thread: DatabaseThread, signer: Signer, engine: AsyncEngine
) -> None:
    """So a chain that is cut or taken away later is missed."""
    async with writing(engine) as connection:
        await append(connection, records(1), signer)
    await ledger.append(records(3))
    later = Ledger(thread, signer)
    await later.append(records(1))

    (opened, _, _), *_ = stored(engine, later.chain)
    heads = [
        {"chain": chain, "seq": length, "hash": stored(engine, chain)[-1][2].hex()}
        for chain, length in ((ADMINISTRATION, 2), (ledger.chain, 4))
    ]
    assert opened["heads"] == heads


async def test_places_that_another_took_are_not_taken_again(ledger: Ledger, engine: AsyncEngine, signer: Signer) -> None:
    """A change of administration between two groups moves the next one on; both chains stay continuous."""
    await ledger.append(records(1))
    async with writing(engine) as connection:
        await append(connection, records(2), signer)
    await ledger.append(records(2))

    assert_continuous(engine, ledger.chain, 4)
    assert_continuous(engine, ADMINISTRATION, 3)
    assert [members["number"] for members, _, _ in stored(engine, ledger.chain)] == [1, 2, 6, 7]


async def test_a_record_is_written_once(ledger: Ledger, thread: DatabaseThread, signer: Signer, engine: AsyncEngine) -> None:
    """What another chain holds already, since it was in doubt whether it had been written, isn't written again."""
    group = records(3)
    await ledger.append(group[:2])
    other = Ledger(thread, signer)
    await other.append(group)

    assert [members["id"] for members, _, _ in stored(engine, other.chain)[1:]] == [group[2].id]


async def test_a_chain_goes_on_after_a_failure(ledger: Ledger, engine: AsyncEngine) -> None:
    """A group that the database didn't take leaves no gap."""
    await ledger.append(records(1))
    aside = Hand(engine)
    aside.execute("ALTER TABLE audit_records RENAME TO aside")
    with pytest.raises(SQLAlchemyError):
        await ledger.append(records(1))
    aside.execute("ALTER TABLE aside RENAME TO audit_records")
    aside.close()
    await ledger.append(records(1))

    assert_continuous(engine, ledger.chain, 3)


async def test_every_thousand_records_are_sealed(ledger: Ledger, signer: Signer, engine: AsyncEngine) -> None:
    """Each checkpoint is signed, names the one before, and has the hash of the record at its place."""
    for size in (1, 700, 700, 1_800):
        await ledger.append(records(size))

    trusted, found = Trusted(signer.public), stored(engine, ledger.chain)
    seals = [trusted.check(body, signature) for body, signature in checkpoints(engine, ledger.chain)]
    assert [(seal["seq"], seal["previous"]) for seal in seals] == [(1_000, 0), (2_000, 1_000), (3_000, 2_000)]
    assert [seal["hash"] for seal in seals] == [found[place - 1][2].hex() for place in (1_000, 2_000, 3_000)]


async def test_the_end_is_sealed(ledger: Ledger, signer: Signer, engine: AsyncEngine) -> None:
    """A chain that is closed is covered to its last record, and belongs to no process any more."""
    await ledger.append(records(5))
    await ledger.aclose()

    (seal,) = (Trusted(signer.public).check(*one) for one in checkpoints(engine, ledger.chain))
    assert (seal["seq"], seal["hash"]) == (6, stored(engine, ledger.chain)[-1][2].hex())
    with by_hand(engine) as connection:
        lease, closed = connection.execute("SELECT lease_until, closed_at FROM audit_chains").fetchone()
    assert lease is None
    assert closed


async def test_what_is_covered_is_not_sealed_again(ledger: Ledger, engine: AsyncEngine) -> None:
    """A checkpoint without a record since the last is none."""
    await ledger.append(records(1))
    await ledger.checkpoint()
    await ledger.checkpoint()

    assert len(checkpoints(engine, ledger.chain)) == 1


async def test_a_chain_without_records_leaves_nothing(ledger: Ledger, engine: AsyncEngine) -> None:
    """A process that had nothing to say isn't known to the record."""
    await ledger.probe()
    await ledger.aclose()

    with by_hand(engine) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM audit_chains) + (SELECT count(*) FROM audit_records)").fetchone() == (0,)


async def test_a_change_and_its_record_stand_or_fall_together(engine: AsyncEngine, signer: Signer) -> None:
    """A transaction that is rolled back leaves neither record nor checkpoint."""

    async def change() -> None:
        async with writing(engine) as connection:
            await append(connection, records(1), signer)
            _ = 1 // 0

    with pytest.raises(ZeroDivisionError):
        await change()

    assert stored(engine, ADMINISTRATION) == []
    assert checkpoints(engine, ADMINISTRATION) == []


async def test_each_change_of_administration_is_sealed(engine: AsyncEngine, signer: Signer) -> None:
    """Its checkpoint stands in the same transaction, so that chain has no uncovered end."""
    for _ in range(2):
        async with writing(engine) as connection:
            await append(connection, records(2), signer)

    seals = [Trusted(signer.public).check(*one) for one in checkpoints(engine, ADMINISTRATION)]
    assert [(seal["seq"], seal["previous"]) for seal in seals] == [(3, 0), (5, 3)]


@ON_SQLITE
async def test_a_probe_needs_the_room_that_a_record_needs(ledger: Ledger, engine: AsyncEngine, tmp_path: Path) -> None:
    """Where the log of a full disk can't grow it fails, as an append would; it leaves nothing when it succeeds."""
    await ledger.append(records(1))
    before = stored(engine, ledger.chain)
    size = (tmp_path / "gateway.db-wal").stat().st_size
    with no_file_larger_than(size), pytest.raises(SQLAlchemyError):
        await ledger.probe()
    await ledger.probe()

    assert stored(engine, ledger.chain) == before
    with by_hand(engine) as connection:
        assert connection.execute("SELECT count(*) FROM audit_records WHERE number = 0").fetchone() == (0,)


async def test_a_commit_that_hangs_holds_no_end_up(
    thread: DatabaseThread, signer: Signer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chain's end stays for the next process, and the process can end."""
    monkeypatch.setattr("app.audit.ledger.CLOSE_SECONDS", 0.05)
    monkeypatch.setattr("app.storage.thread.CLOSE_SECONDS", 0.05)
    ledger, goes_on = Ledger(thread, signer), threading.Event()
    hanging = asyncio.ensure_future(thread.run(lambda _: goes_on.wait()))
    await ledger.aclose()
    await thread.aclose()
    goes_on.set()
    await hanging

    said = capsys.readouterr().out
    assert "the audit chain's end can't be sealed" in said
    assert "its thread is left behind" in said


async def test_a_chain_that_another_process_ended_is_left(ledger: Ledger, engine: AsyncEngine) -> None:
    """Who was taken for dead, since it stood still, goes on in a new chain, whose end another will see to when it dies."""
    await ledger.append(records(1))
    ended = ledger.chain
    with by_hand(engine) as hand:
        hand.execute("UPDATE audit_chains SET closed_at = 'now' WHERE id = ?", (ended,))
    await ledger._renew()
    await ledger.append(records(1))

    assert ledger.chain != ended
    assert_continuous(engine, ended, 2)
    assert_continuous(engine, ledger.chain, 2)


async def test_what_another_sealed_meanwhile_is_left(ledger: Ledger, thread: DatabaseThread, signer: Signer, engine: AsyncEngine) -> None:
    """Who was taken for dead finds its end sealed: it seals nothing twice, and goes on to seal what it writes then."""
    await ledger.append(records(1))
    *_, (_, _, digest) = stored(engine, ledger.chain)
    await Ledger(thread, signer).seal_if(lambda _: True, Head(ledger.chain, 2, digest))
    await ledger.checkpoint()
    sealed = len(checkpoints(engine, ledger.chain))
    await ledger.append(records(1))
    await ledger.checkpoint()

    assert sealed == 1
    assert len(checkpoints(engine, ledger.chain)) == 2


async def test_a_checkpoint_that_fails_holds_no_lease_up(ledger: Ledger, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process lives, and says so, whatever is wrong with its checkpoints."""
    monkeypatch.setattr("app.audit.ledger.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("app.audit.ledger.CHECKPOINT_SECONDS", 0.0)
    await ledger.append(records(1))
    with by_hand(engine) as hand:
        hand.execute("ALTER TABLE audit_checkpoints RENAME TO aside")
        first = hand.execute("SELECT lease_until FROM audit_chains").fetchone()
        async with ledger.kept(), asyncio.timeout(10):
            while hand.execute("SELECT lease_until FROM audit_chains").fetchone() == first:
                await asyncio.sleep(0.01)
        hand.execute("ALTER TABLE aside RENAME TO audit_checkpoints")

    assert checkpoints(engine, ledger.chain) == []


async def test_a_break_of_the_lease_is_known(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what began before a process stood still for longer than its lease, others may have told the end; not of what begins after."""
    monkeypatch.setattr("app.audit.ledger.LEASE_SECONDS", 0.2)
    async with ledger.kept():
        before = time.monotonic()
        held = ledger.held_since(before)
        time.sleep(0.3)  # noqa: ASYNC251 - the process stands still
        broken = ledger.held_since(before)
        await ledger._renew()
        after = time.monotonic()
        answers = (held, broken, ledger.held_since(before), ledger.held_since(after))

    assert answers == (True, False, False, True)
