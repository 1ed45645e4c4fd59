"""Removing what is old: whole stretches, each proven before and after, whatever comes in between."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.audit import Signer
from app.audit.chain import ADMINISTRATION, Head
from app.retention import Plan, Retention
from app.storage import DatabaseThread
from tests.audit.past import BY, Kept, Past, ago, archived, call, days_ago, listed, past, sha256
from tests.storage.database import ON_SQLITE

SEQS = "SELECT seq FROM audit_records WHERE chain = '{}' ORDER BY seq"


@pytest_asyncio.fixture
async def house(tmp_path: Path, database: str) -> AsyncIterator[Past]:
    """A state whose records may be of any age."""
    async with past(tmp_path / "state", "" if database.startswith("sqlite") else database) as opened:
        yield opened


async def seqs(house: Past, chain: str) -> list[int]:
    """The places of a chain's records that are there."""
    return await house.all(SEQS.format(chain))


async def tombstones(house: Past, chain: str) -> list[dict[str, Any]]:
    """What a chain's tombstones say."""
    query = f"SELECT body FROM audit_tombstones WHERE chain = '{chain}' ORDER BY seq"  # noqa: S608 - ours
    return [json.loads(body) for body in await house.all(query)]


async def test_a_chain_that_ended_goes_as_a_whole(house: Past) -> None:
    """Of a closed chain that is older than the date nothing is left but its tombstone; younger chains stay whole."""
    old, young = await house.write(30), await house.write(10)
    head = (await house.all(f"SELECT hash FROM audit_records WHERE chain = '{old}' ORDER BY seq DESC LIMIT 1"))[0]  # noqa: S608 - ours
    pruning = await house.prune(20)
    (tombstone,) = await tombstones(house, old)

    assert [one.stretch.chain for one in pruning.removed] == [old]
    assert await seqs(house, old) == []
    assert await seqs(house, young) == list(range(1, 12))
    assert (tombstone["first"], tombstone["seq"], tombstone["hash"]) == (1, 11, head.hex())
    assert "file" not in tombstone
    house.assert_proven()


async def test_only_what_ends_in_a_checkpoint_goes(house: Past) -> None:
    """A record that is too young keeps the whole stretch that it stands in, and all after it."""
    async with house.ledger() as ledger:
        for days in (40, 30, 20):
            with days_ago(days):
                await ledger.append([call("1")])
                await ledger.append([call("2")])
            if days != 40:
                await ledger.checkpoint()
        await ledger.aclose()
    nothing = await house.prune(35)
    until_checkpoint = await house.prune(25)

    assert nothing.removed == []
    assert [(one.stretch.first, one.stretch.last.seq) for one in until_checkpoint.removed] == [(1, 5)]
    assert await seqs(house, ledger.chain) == [6, 7]
    house.assert_proven()


async def test_a_tombstone_follows_the_one_before(house: Past) -> None:
    """A chain that is removed bit by bit has tombstones without a gap between them."""
    async with house.ledger() as ledger:
        for days in (40, 30, 20):
            with days_ago(days):
                await ledger.append([call(str(days))])
            await ledger.checkpoint()
        await ledger.aclose()
    for days in (35, 25, 15):
        await house.prune(days)
        house.assert_proven()

    assert [(one["first"], one["seq"]) for one in await tombstones(house, ledger.chain)] == [(1, 2), (3, 3), (4, 4)]
    assert await seqs(house, ledger.chain) == []


async def test_a_chain_that_is_written_to_keeps_its_last_record_and_goes_on(house: Past) -> None:
    """Its writer needs to know where it stands, also one that lost its place."""
    kept = Kept()
    async with house.ledger(kept) as ledger:
        with days_ago(30):
            for number in range(3):
                await ledger.append([call(str(number))])
                await ledger.checkpoint()
        await ledger._thread.run(ledger._own.renew_lease)  # as at a heartbeat
        await house.prune(20)
        left = await seqs(house, ledger.chain)
        await house.change(0)
        await ledger.append([call("later")])
        await ledger.aclose()

    assert left == [4]
    assert await seqs(house, ledger.chain) == [4, 5]
    assert len(kept.bodies[ledger.chain]) == 5
    house.assert_proven()


async def test_the_checkpoint_after_a_tombstone_names_the_one_before(house: Past) -> None:
    """The checkpoint at a tombstone's place stays, so that its chain's next one follows it."""
    async with house.ledger() as ledger:
        with days_ago(30):
            await ledger.append([call("1")])
            await ledger.checkpoint()
        await ledger.append([call("2")])
        await ledger._thread.run(ledger._own.renew_lease)  # as at a heartbeat
        await house.prune(20)
        left = await seqs(house, ledger.chain)
        await ledger.aclose()
    previous = "SELECT json_extract(body, '$.previous') FROM audit_checkpoints WHERE chain = '{}' ORDER BY seq"

    assert left == [3]
    assert [int(one) for one in await house.all(previous.format(ledger.chain))] == [0, 2]
    house.assert_proven()


async def test_a_tail_that_no_checkpoint_covers_stays(house: Past) -> None:
    """What can't be proven yet isn't removed, however old."""
    async with house.ledger() as ledger:
        with days_ago(30):
            await ledger.append([call("1")])
    house.edit("UPDATE audit_chains SET closed_at = 'then' WHERE id = ?", ledger.chain)
    pruning = await house.prune(20)

    assert pruning.removed == []
    assert await seqs(house, ledger.chain) == [1, 2]


async def test_a_call_without_an_outcome_keeps_its_records(house: Past) -> None:
    """Nothing goes from the oldest intent without an outcome on."""
    chain = await house.write(30, checkpoints=3, closed=False)
    intent = "SELECT number FROM audit_records WHERE chain = audit_chains.id AND seq = ?"
    oldest_open = f"UPDATE audit_chains SET open_since = ({intent}) WHERE id = ?"  # noqa: S608 - ours
    house.edit(oldest_open, 2, chain)
    kept = await house.prune(20)
    house.edit(oldest_open, 22, chain)
    removed = await house.prune(20)

    assert kept.removed == []
    assert [one.stretch.last.seq for one in removed.removed] == [21]


async def test_nothing_younger_than_two_hours_goes(house: Past) -> None:
    """Whatever the date: calls of that age may be under way."""
    old, young = await house.write(2.5 / 24), await house.write(1.5 / 24)
    await house.prune(0)

    assert await seqs(house, old) == []
    assert len(await seqs(house, young)) == 11


async def test_the_number_that_a_writer_takes_next_stays_taken(house: Past) -> None:
    """A process that was idle, while changes were made and removed again, doesn't put its next record in their place."""
    async with house.ledger() as ledger:
        with days_ago(30):
            await ledger.append([call("1")])
            await ledger.checkpoint()
        for _ in range(3):
            await house.change(25)
        await house.prune(20)
        await ledger.append([call("2")])
        (last,) = await house.all(f"SELECT max(number) FROM audit_records WHERE chain = '{ledger.chain}'")  # noqa: S608 - ours

        assert last == (await house.all("SELECT max(number) FROM audit_records"))[0]
    house.assert_proven()


async def test_pruning_is_on_record(house: Past) -> None:
    """Each stretch that goes has a record of who removed what."""
    chain = await house.write(30)
    pruning = await house.prune(20)
    body = json.loads((await house.all("SELECT body FROM audit_records WHERE name = 'audit:pruned'"))[0])

    assert (body["chain"], body["by"], body["pruned_chain"], body["first"], body["last"]) == (ADMINISTRATION, BY, chain, 1, 11)
    assert body["before"] == pruning.removed[0].stretch.before


async def test_what_pruning_leaves_behind_is_not_pruned_for_itself(house: Past) -> None:
    """Where nothing else happens, pruning comes to an end: its own records alone are no reason for another."""
    for days in (50, 45):
        await house.change(days)
    await house.write(50)
    with days_ago(40):
        first = await house.prune(35)
        second = await house.prune(30)
    third = await house.prune(30)

    assert [len(pruning.removed) for pruning in (first, second, third)] == [2, 1, 0]


async def test_changes_are_removed_like_everything_else(house: Past) -> None:
    """The chain of changes goes up to a checkpoint, of which it has many, and keeps its last record."""
    for days in (50, 40, 30):
        await house.change(days)
    await house.prune(35)

    assert await seqs(house, ADMINISTRATION) == [4, 5]
    house.assert_proven()


async def alter(house: Past, chain: str) -> None:
    """Change what a record tells."""
    house.edit("UPDATE audit_records SET body = replace(body, '\"shop\"', '\"shoe\"') WHERE chain = ? AND seq = 5", chain)


async def alter_hash(house: Past, chain: str) -> None:
    """Change a record's hash alone."""
    house.edit("UPDATE audit_records SET hash = ? WHERE chain = ? AND seq = 5", bytes(32), chain)


async def renumber(house: Past, chain: str) -> None:
    """Put a record to another place among all."""
    house.edit("UPDATE audit_records SET number = 1000 WHERE chain = ? AND seq = 5", chain)


async def unreadable(house: Past, chain: str) -> None:
    """Make a record of what isn't one."""
    house.edit('UPDATE audit_records SET body = \'{"chain":"\' || ? || \'","seq":5}\' WHERE chain = ? AND seq = 5', chain, chain)


async def retype(house: Past, chain: str) -> None:
    """Store a record's own bytes as another type."""
    house.edit("UPDATE audit_records SET body = CAST(body AS BLOB) WHERE chain = ? AND seq = 5", chain)


async def delete(house: Past, chain: str) -> None:
    """Take a record out."""
    house.edit("DELETE FROM audit_records WHERE chain = ? AND seq = 5", chain)


async def rechain(house: Past, chain: str) -> None:
    """Leave the first checkpoint out, and take the second for one of other records."""
    house.edit("DELETE FROM audit_checkpoints WHERE chain = ? AND seq = 11", chain)


async def resign(house: Past, chain: str) -> None:
    """Put a checkpoint there that somebody else signed."""
    seal = Signer(bytes(32)).checkpoint(Head(chain, 11, bytes(32)), 0)
    house.edit("UPDATE audit_checkpoints SET body = ?, signature = ? WHERE chain = ? AND seq = 11", seal.body, seal.signature, chain)


async def misseal(house: Past, chain: str) -> None:
    """Put a checkpoint there that the gateway signed for other records."""
    seal = house.signer.checkpoint(Head(chain, 11, bytes(32)), 0)
    house.edit("UPDATE audit_checkpoints SET body = ?, signature = ? WHERE chain = ? AND seq = 11", seal.body, seal.signature, chain)


async def forge_tombstone(house: Past, chain: str) -> None:
    """Say that the chain was removed."""
    seal = Signer(bytes(32)).tombstone(Head(chain, 11, bytes(32)), first=1, before="", archived=None)
    house.edit("INSERT INTO audit_tombstones (body, signature) VALUES (?, ?)", seal.body, seal.signature)


async def misuse_checkpoint(house: Past, chain: str) -> None:
    """Say so with a checkpoint, which the gateway did sign."""
    house.edit("INSERT INTO audit_tombstones (body, signature) SELECT body, signature FROM audit_checkpoints WHERE chain = ?", chain)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (alter, "record altered at 5"),
        (alter_hash, "record altered at 5"),
        (renumber, "record altered at 5"),
        (unreadable, "record altered at 5"),
        (delete, "record missing after 4"),
        (rechain, "checkpoint missing between 0 and 21"),
        (resign, "a checkpoint isn't what the gateway signed"),
        (misseal, "the checkpoint at 11 was made of other records"),
        (forge_tombstone, "a tombstone isn't what the gateway signed"),
        (misuse_checkpoint, "a checkpoint stands where a tombstone should"),
    ],
)
@pytest.mark.parametrize("exported", [False, True])
async def test_what_was_tampered_with_is_not_removed(
    house: Past, tmp_path: Path, tamper: Callable[[Past, str], Any], said: str, *, exported: bool
) -> None:
    """Pruning would take the trace of it away: nothing of that chain goes, and it is named; other chains go."""
    chain, other = await house.write(30, checkpoints=2), await house.write(30)
    await tamper(house, chain)
    before = await seqs(house, chain)
    (tmp_path / "archive").mkdir()
    pruning = await house.prune(20, tmp_path / "archive" if exported else None)

    assert [(one.chain, one.reason.startswith(said)) for one in pruning.spared] == [(chain, True)]
    assert [one.stretch.chain for one in pruning.removed] == [other]
    assert await seqs(house, chain) == before


@ON_SQLITE
async def test_a_body_of_another_type_is_not_removed(house: Past) -> None:
    """SQLite holds any type in a column, so that the same bytes may be something else: nothing of that chain goes."""
    chain = await house.write(30, checkpoints=2)
    await retype(house, chain)
    pruning = await house.prune(20)

    assert [(one.chain, one.reason.startswith("record altered at 5")) for one in pruning.spared] == [(chain, True)]
    assert pruning.removed == []


async def test_what_is_tampered_with_after_the_survey_is_not_archived(house: Past, tmp_path: Path) -> None:
    """What goes into the archive is recomputed once more."""
    chain = await house.write(30, checkpoints=2)
    before = listed(tmp_path)
    async with house.retention(tmp_path) as retention:
        plan = await retention.plan(ago(20))
        house.edit("DELETE FROM audit_records WHERE chain = ? AND seq > 15", chain)
        pruning = await retention.prune(plan)

    assert [one.reason for one in pruning.spared] == ["the records don't lead to the checkpoint at 21 any more"]
    assert await seqs(house, chain) == list(range(1, 16))
    assert listed(tmp_path) == before


async def test_archives_hold_what_was_stored(house: Past, tmp_path: Path) -> None:
    """One body a line, byte for byte, in the chain's order, in a file of the owner's alone, whose hash the tombstone tells."""
    async with house.ledger(kept := Kept()) as ledger:
        with days_ago(30):
            await ledger.append([call(*(str(number) for number in range(50))) for _ in range(600)])
            await ledger.checkpoint()
        await ledger.aclose()
    folder = tmp_path / "archive"
    folder.mkdir()
    await house.prune(20, folder)
    (tombstone,) = await tombstones(house, ledger.chain)
    file = folder / f"{ledger.chain}-1-601.jsonl.gz"

    assert archived(folder) == {file.name: kept.bodies[ledger.chain]}
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tombstone["file"], tombstone["sha256"]) == (file.name, sha256(file))


class Killed(BaseException):
    """The end of a process."""


class Mortal(DatabaseThread):
    """Does so much work, and then the process ends."""

    def __init__(self, house: Past, lives: int) -> None:
        super().__init__(house.engine)
        self._lives = lives

    async def run(self, work: Callable[..., Any]) -> Any:
        """Do it while it lives."""
        self._lives -= 1
        if self._lives < 0:
            raise Killed
        return await super().run(work)


async def prune_mortally(house: Past, folder: Path, lives: int) -> bool:
    """Prune until the end of the process; gives whether it was through before."""
    thread = Mortal(house, lives)
    retention = Retention(house.engine, house.keyring, BY, folder, thread)
    try:
        await retention.prune(await retention.plan(ago(20)))
    except Killed:
        return False
    else:
        return True
    finally:
        await DatabaseThread.run(thread, lambda _: thread._disconnect())
        thread._orders.put(None)


@ON_SQLITE
async def test_a_prune_that_is_interrupted_anywhere_is_taken_up(house: Past, tmp_path: Path) -> None:
    """Whatever the last thing was that it did: the next one ends with all that is old archived once, gone, and the rest proven."""
    await house.write(30, records=60, checkpoints=2)
    await house.write(30)
    house_after, steps, through = await _left_after(house, tmp_path, 10_000), 0, False
    while not through:
        copy = tmp_path / f"copy-{steps}"
        shutil.copytree(house.folder, copy)
        (folder := tmp_path / f"archive-{steps}").mkdir()
        async with past(copy) as again:
            through = await prune_mortally(again, folder, steps)
            resumed = await again.prune(20, folder)
            again.assert_proven()

            assert resumed.spared == []
            assert await again.all("SELECT count(*) FROM audit_records WHERE chain != 'administration'") == house_after
            assert sum(map(len, archived(folder).values())) == 132
        steps += 1

    assert steps > 15


async def alter_left(house: Past, chain: str) -> None:
    """Alter a record with its hash, and delete the next."""
    house.edit(
        "UPDATE audit_records SET body = replace(body, '\"shop\"', '\"shoe\"'), hash = ? WHERE chain = ? AND seq = 250", bytes(32), chain
    )
    house.edit("DELETE FROM audit_records WHERE chain = ? AND seq = 251", chain)


async def cut_left(house: Past, chain: str) -> None:
    """Delete the last one."""
    house.edit("DELETE FROM audit_records WHERE chain = ? AND seq = (SELECT max(seq) FROM audit_records WHERE chain = ?)", chain, chain)


async def rehash_left(house: Past, chain: str) -> None:
    """Alter the last one with its hash."""
    house.edit(
        "UPDATE audit_records SET hash = ? WHERE chain = ? AND seq = (SELECT max(seq) FROM audit_records WHERE chain = ?)",
        bytes(32),
        chain,
        chain,
    )


async def renumber_left(house: Past, chain: str) -> None:
    """Put one to another place among all."""
    house.edit("UPDATE audit_records SET number = 1000 WHERE chain = ? AND seq = 250", chain)


@pytest.mark.parametrize("tamper", [alter_left, cut_left, rehash_left, renumber_left])
async def test_what_an_interrupted_prune_left_goes_only_where_it_is_sound(
    house: Past, tmp_path: Path, tamper: Callable[[Past, str], Any]
) -> None:
    """What was altered meanwhile stays, with all after it, and its chain is named."""
    chain = await house.write(30, records=300)
    (tmp_path / "archive").mkdir()
    lives = 1
    while not await tombstones(house, chain) or len(await seqs(house, chain)) == 301:
        await prune_mortally(house, tmp_path / "archive", lives)
        lives += 1
    await tamper(house, chain)
    before = await seqs(house, chain)
    pruning = await house.prune(20, tmp_path / "archive")

    assert 1 < before[0] < 250
    assert chain in [one.chain for one in pruning.spared]
    assert await seqs(house, chain) == before


async def _left_after(house: Past, tmp_path: Path, lives: int) -> list[int]:
    shutil.copytree(house.folder, tmp_path / "whole")
    (tmp_path / "whole-archive").mkdir()
    async with past(tmp_path / "whole") as whole:
        await prune_mortally(whole, tmp_path / "whole-archive", lives)
        return await whole.all("SELECT count(*) FROM audit_records WHERE chain != 'administration'")


async def test_two_prunes_at_once_do_not_clash(house: Past, tmp_path: Path) -> None:
    """Every stretch is signed for and archived once; who comes second says so."""
    chains = {await house.write(30, records=300) for _ in range(3)}
    (folder := tmp_path / "archive").mkdir()

    async with house.retention(folder) as one, house.retention(folder) as other:
        plans = await asyncio.gather(one.plan(ago(20)), other.plan(ago(20)))
        prunings = await asyncio.gather(one.prune(plans[0]), other.prune(plans[1]))

    removed = [each.stretch.chain for pruning in prunings for each in pruning.removed]
    assert sorted(removed) == sorted(chains)
    assert {each.chain for pruning in prunings for each in pruning.spared} == chains
    assert len(archived(folder)) == 3
    assert [(await seqs(house, chain), len(await tombstones(house, chain))) for chain in chains] == [([], 1)] * 3
    house.assert_proven()


async def test_a_process_that_writes_meanwhile_goes_on(house: Past) -> None:
    """Its records are all there afterwards, in an unbroken chain, and the old ones are gone."""
    old = await house.write(30, records=2_000)
    async with house.ledger(kept := Kept()) as ledger, house.retention() as retention:
        pruning = asyncio.create_task(_prune_all(retention))
        while not pruning.done():
            await ledger.append([call("meanwhile")])
        await ledger.aclose()
        await pruning

    assert await seqs(house, old) == []
    assert await house.all(f"SELECT body FROM audit_records WHERE chain = '{ledger.chain}' ORDER BY seq") == kept.bodies[ledger.chain]  # noqa: S608 - ours
    assert len(kept.bodies[ledger.chain]) > 10
    house.assert_proven()


async def _prune_all(retention: Retention) -> None:
    plan = await retention.plan(ago(20))

    assert plan.spared == []

    await retention.prune(Plan(plan.stretches, []))


async def test_what_lies_before_a_chains_beginning_is_not_removed_unread(house: Past) -> None:
    """A record that was put before the first would go without a word: the chain is spared."""
    chain = await house.write(30)
    body = json.dumps({"chain": chain, "seq": 0, "number": -5, "id": "forged", "at": "2020", "name": "call:outcome"})
    house.edit("INSERT INTO audit_records (number, body, hash) VALUES (-5, ?, ?)", body, bytes(32))
    pruning = await house.prune(20)

    assert pruning.removed == []
    assert [one.chain for one in pruning.spared] == [chain]


async def test_a_witness_against_another_chain_is_not_removed(house: Past) -> None:
    """The first record of a chain names the heads of others: while one of them isn't there any more as it was, it stays."""
    edited = await house.write(40)
    witness = await house.write(30)
    house.edit("UPDATE audit_records SET hash = ? WHERE chain = ? AND seq = 11", bytes(32), edited)
    pruning = await house.prune(20)

    assert pruning.removed == []
    assert {one.chain for one in pruning.spared} == {edited, witness}
