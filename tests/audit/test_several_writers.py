"""Several processes that write one record at the same time: each its own chain, and one order for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Name, Record, Signer, append
from app.audit.chain import ADMINISTRATION, GENESIS, next_hash
from app.storage import DatabaseThread, writing
from tests.records import administrative
from tests.storage.database import by_hand

WRITERS, GROUPS, RECORDS = 4, 40, 3


def records(count: int = RECORDS) -> list[Record]:
    """A group."""
    return [administrative(Name.TOKEN_TESTED, "test", str(number)) for number in range(count)]


@asynccontextmanager
async def ledgers(engine: AsyncEngine, signer: Signer, count: int) -> AsyncIterator[list[Ledger]]:
    """The ledgers of so many processes."""
    threads = [DatabaseThread(engine) for _ in range(count)]
    yield [Ledger(thread, signer) for thread in threads]
    for thread in threads:
        await thread.aclose()


async def write(ledger: Ledger) -> None:
    """Append group after group, as fast as they go, and seal the end."""
    for _ in range(GROUPS):
        await ledger.append(records())
    await ledger.aclose()


async def administer(engine: AsyncEngine, signer: Signer) -> None:
    """Make changes, one after the other."""
    for _ in range(GROUPS // 2):
        async with writing(engine) as connection:
            await append(connection, records(1), signer)


def is_continuous(engine: AsyncEngine, chain: str) -> bool:
    """Whether every record of a chain follows from the one before."""
    query = "SELECT seq, CAST(body AS BLOB), hash FROM audit_records WHERE chain = ? ORDER BY seq"
    last = GENESIS
    with by_hand(engine) as hand:
        for place, (seq, body, digest) in enumerate(hand.execute(query, (chain,)), start=1):
            last = next_hash(last, body)
            if (seq, digest) != (place, last):
                return False
    return True


async def test_each_keeps_its_chain_and_all_have_one_order(engine: AsyncEngine, signer: Signer) -> None:
    """Whoever looks meanwhile sees no number without all before it: the order of numbers is that in which they came on record."""
    gaps, over = [], asyncio.Event()

    async def look(thread: DatabaseThread) -> None:
        query = "SELECT coalesce(max(number), 0) - count(*) FROM audit_records"
        while not over.is_set():
            gaps.append(await thread.run(lambda connection: int(connection.execute(query).fetchone()[0])))

    watching = DatabaseThread(engine)
    async with ledgers(engine, signer, WRITERS) as several:
        looking = asyncio.create_task(look(watching))
        await asyncio.gather(*map(write, several), administer(engine, signer))
        over.set()
        await looking
        chains = [ADMINISTRATION, *(ledger.chain for ledger in several)]
    await watching.aclose()

    with by_hand(engine) as hand:
        count, last = hand.execute("SELECT count(*), max(number) FROM audit_records").fetchone()
        seals = [number for (number,) in hand.execute("SELECT number FROM audit_checkpoints ORDER BY number")]
    assert count == last == WRITERS * (GROUPS * RECORDS + 1) + GROUPS // 2 + 1
    assert set(gaps) == {0}
    assert all(is_continuous(engine, chain) for chain in chains)
    assert seals == list(range(1, WRITERS + GROUPS // 2 + 1))


async def test_a_place_that_was_freed_is_not_taken(engine: AsyncEngine, signer: Signer) -> None:
    """Where what another wrote next is removed already, who was idle meanwhile goes on after all that is there, not in the gap."""
    async with ledgers(engine, signer, 2) as (idle, other):
        await idle.append(records())
        await other.append(records())
        with by_hand(engine) as hand:
            hand.execute("DELETE FROM audit_records WHERE number IN (5, 6, 7)")
        await idle.append(records())

    with by_hand(engine) as hand:
        numbers = [number for (number,) in hand.execute("SELECT number FROM audit_records WHERE chain = ? ORDER BY seq", (idle.chain,))]
    assert numbers == [1, 2, 3, 4, 9, 10, 11]


async def test_a_record_may_hold_any_character(engine: AsyncEngine, signer: Signer) -> None:
    """Also U+0000, which a database may not be able to hold: the body stays as it was written, and what is read out of it can be found."""
    texts = ["\0", "a\0b", "\\u0000", "\x01\x7f\u2028", "\ud7ff\ue000\U0010ffff", "'\"\\?$1"]
    made = [administrative(Name.TOKEN_TESTED, "test", one, ids=[str(place)]) for place, one in enumerate(texts)]
    async with ledgers(engine, signer, 1) as (ledger,):
        await ledger.append(made)
        await ledger.append(made)

    assert is_continuous(engine, ledger.chain)
    with by_hand(engine) as hand:
        bodies = [json.loads(body) for (body,) in hand.execute("SELECT CAST(body AS BLOB) FROM audit_records ORDER BY number")]
        found = hand.execute("SELECT id, value FROM audit_ids JOIN audit_records USING (number) ORDER BY number").fetchall()
    assert [one["subject"] for one in bodies[1:]] == texts
    assert list(found) == [(one.id, str(place)) for place, one in enumerate(made)]
