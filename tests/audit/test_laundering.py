"""Edits of what is sealed, or of what its writer knows, never get the gateway's signature: they stay to be found, whatever happens next."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Ledger, Name, Record, Signer, append
from app.audit.canonical import canonical
from app.audit.chain import ADMINISTRATION, GENESIS
from app.audit.seals import Trusted
from app.audit.verification import verify
from app.audit.verification.findings import Kind
from app.storage import writing
from app.storage.embedded_scan import scanning
from tests.audit.deaths import SIGNER, Deaths
from tests.records import administrative
from tests.storage.database import ON_SQLITE

pytestmark = ON_SQLITE
DATABASE = "gateway.db"


def records(count: int) -> list[Record]:
    """Records to tell from others."""
    return [administrative(Name.TOKEN_ADDED, "test", f"subject-{number}") for number in range(count)]


def database(folder: Path) -> sqlite3.Connection:
    """As somebody who can write the database has it."""
    return sqlite3.connect(folder / DATABASE, isolation_level=None, timeout=5)


def failures(folder: Path, signer: Signer) -> set[Kind]:
    """What `audit verify` finds."""
    with scanning(folder / DATABASE) as scan:
        found = verify(scan, Trusted(signer.public)).findings
    return {one.kind for one in found if not one.kind.is_note}


def rewrite(folder: Path, chain: str, seq: int) -> None:
    """Change one record, and hash it and all after it in its chain anew."""
    with database(folder) as connection:
        rows = connection.execute("SELECT number, body, hash FROM audit_records WHERE chain = ? ORDER BY seq", (chain,)).fetchall()
        last = GENESIS
        for number, body, _ in rows:
            members = json.loads(body)
            if members["seq"] == seq:
                members["subject"] = "somebody-else"
            new = canonical(members)
            last = hashlib.sha256(last + new).digest()
            connection.execute("UPDATE audit_records SET body = ?, hash = ? WHERE number = ?", (new.decode(), last, number))


def forge(folder: Path, chain: str, record: Record) -> None:
    """Append a record that nobody wrote, rightly hashed."""
    with database(folder) as connection:
        seq, head = connection.execute("SELECT seq, hash FROM audit_records WHERE chain = ? ORDER BY seq DESC LIMIT 1", (chain,)).fetchone()
        (number,) = connection.execute("SELECT max(number) + 1 FROM audit_records").fetchone()
        body = canonical({**record.members, "chain": chain, "seq": seq + 1, "number": number})
        digest = hashlib.sha256(head + body).digest()
        connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (?, ?, ?)", (number, body.decode(), digest))


def drop_checkpoints(folder: Path, chain: str) -> None:
    """Take a chain's checkpoints away."""
    with database(folder) as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ?", (chain,))


@pytest.fixture
def deaths(engine: AsyncEngine) -> Deaths:
    """Processes that die."""
    return Deaths(engine)


async def test_a_living_chain_that_was_rewritten_is_not_signed(ledger: Ledger, signer: Signer, tmp_path: Path) -> None:
    """The process goes on from the head that it knows, so its next checkpoint contradicts what was rewritten."""
    await ledger.append(records(5))
    await ledger.checkpoint()
    rewrite(tmp_path, ledger.chain, 3)
    drop_checkpoints(tmp_path, ledger.chain)
    await ledger.append(records(2))
    await ledger.aclose()

    assert failures(tmp_path, signer) & {Kind.RECORD_ALTERED, Kind.RECORDS_ALTERED}


@pytest.mark.parametrize("fails_before", [False, True])
async def test_what_is_appended_to_a_living_chain_is_not_signed(
    ledger: Ledger,
    signer: Signer,
    tmp_path: Path,
    fails_before: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A record that the process didn't write ends its chain, unsealed; it goes on in another. Also where it had lost its place."""
    await ledger.append(records(3))
    before = ledger.chain
    forge(tmp_path, ledger.chain, records(1)[0])
    if fails_before:
        ledger._own._position = None
    await ledger.append(group := records(2))
    await ledger.aclose()

    assert ledger.chain != before
    assert failures(tmp_path, signer)
    with database(tmp_path) as connection:
        query = "SELECT chain FROM audit_records WHERE id = ?"
        assert [connection.execute(query, (one.id,)).fetchone()[0] for one in group] == [ledger.chain] * 2
        assert connection.execute("SELECT count(*) FROM audit_checkpoints WHERE chain = ?", (before,)).fetchone() == (0,)


async def test_the_last_record_of_a_living_chain_is_missed(ledger: Ledger, signer: Signer, tmp_path: Path) -> None:
    """Its place isn't used again: the process knows that it was there."""
    await ledger.append(records(3))
    with database(tmp_path) as connection:
        connection.execute("DELETE FROM audit_records WHERE chain = ? AND seq = 4", (ledger.chain,))
    await ledger.append(records(1))
    await ledger.aclose()

    assert Kind.RECORD_MISSING in failures(tmp_path, signer)


async def test_a_group_in_doubt_is_taken_for_what_it_is(ledger: Ledger, signer: Signer, tmp_path: Path) -> None:
    """A commit whose answer was lost is the process's own work: nothing is written twice and the chain goes on."""
    await ledger.append(records(1))
    group = records(3)
    own, position = ledger._own, ledger._own._position
    await ledger.append(group)
    own._position, own._known, own._doubtful = None, position.head, {one.id for one in group}  # type: ignore[union-attr]
    await ledger.append([*group, *records(1)])
    await ledger.aclose()

    assert failures(tmp_path, signer) == set()
    with database(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM audit_records WHERE chain = ?", (ledger.chain,)).fetchone() == (6,)


async def test_a_dead_chain_without_its_checkpoints_is_not_signed(deaths: Deaths, tmp_path: Path) -> None:
    """More uncovered records than a process leaves mean that checkpoints are gone: recovery signs nothing, and the chain stays found."""
    dead = await deaths.died(*records(2_500))
    rewrite(tmp_path, dead, 5)
    drop_checkpoints(tmp_path, dead)
    await deaths.recovered()

    assert not deaths.sealed(dead)
    assert failures(tmp_path, SIGNER)


async def test_a_closed_chain_that_is_opened_again_is_not_signed(deaths: Deaths, tmp_path: Path) -> None:
    """A table that nothing proves can't lead the gateway to sign what was rewritten."""
    ledger = deaths.ledger()
    await ledger.append(records(2_500))
    await ledger.aclose()
    rewrite(tmp_path, ledger.chain, 5)
    drop_checkpoints(tmp_path, ledger.chain)
    deaths.sql("UPDATE audit_chains SET closed_at = NULL, lease_until = '2020', open_since = 1 WHERE id = ?", ledger.chain)
    await deaths.recovered()

    assert not deaths.sealed(ledger.chain)
    assert failures(tmp_path, SIGNER)


async def test_a_checkpoint_that_the_gateway_did_not_sign_leads_nowhere(deaths: Deaths) -> None:
    """Recovery believes no checkpoint whose signature is wrong."""
    ledger = deaths.ledger()
    await ledger.append(records(5))
    await ledger.checkpoint()
    await ledger.append(records(2))
    deaths.sql("UPDATE audit_checkpoints SET signature = zeroblob(64) WHERE chain = ?", ledger.chain)
    await deaths.recovered()

    assert len(deaths.sql("SELECT 1 FROM audit_checkpoints WHERE chain = ?", ledger.chain)) == 1


async def test_an_end_that_another_chain_names_otherwise_is_not_signed(deaths: Deaths, tmp_path: Path) -> None:
    """A chain that was opened since says where this one stood; a rewritten end doesn't."""
    dead = await deaths.died(*records(3))
    await deaths.died(*records(1))
    rewrite(tmp_path, dead, 2)
    await deaths.recovered()

    assert not deaths.sealed(dead)


@pytest.mark.parametrize("edit", ["forged", "rewritten"])
async def test_administration_never_covers_what_it_did_not_write(engine: AsyncEngine, signer: Signer, tmp_path: Path, edit: str) -> None:
    """Every change leaves the chain sealed to its end; where it isn't, the next change is on record and signs nothing."""
    for _ in range(3):
        async with writing(engine) as connection:
            await append(connection, records(1), signer)
    if edit == "forged":
        forge(tmp_path, ADMINISTRATION, records(1)[0])
    else:
        rewrite(tmp_path, ADMINISTRATION, 4)
    drop = "DELETE FROM audit_checkpoints WHERE chain = ? AND seq = 4"
    with database(tmp_path) as connection:
        connection.execute(drop, (ADMINISTRATION,))
    async with writing(engine) as later:
        await append(later, group := records(1), signer)

    assert failures(tmp_path, signer)
    with database(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM audit_records WHERE id = ?", (group[0].id,)).fetchone() == (1,)
        assert connection.execute("SELECT max(seq) FROM audit_checkpoints").fetchone() == (3,)
