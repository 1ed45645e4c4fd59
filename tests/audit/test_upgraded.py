"""Records from before there were chains: chained by the upgrade, sealed at the next chance, and only then."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import Name, Signer
from app.audit.seals import Trusted
from app.audit.upgraded import BEFORE_CHAINS
from app.audit.verification import verify
from app.audit.verification.findings import Kind
from app.errors import StartRefused
from app.opening import open_state
from app.recording import record_changes, seal_old_records
from app.storage import open_engine, writing
from app.storage.embedded_scan import scanning
from app.storage.migrate import _config, upgrade
from app.vault import CHECKPOINT_SIGNING, Keyring, own_key
from tests.audit.test_laundering import rewrite
from tests.records import administrative
from tests.rig import settings_for

KEYRING = Keyring({"k1": bytes(32)})


def old_body(number: int) -> str:
    """A record as it was stored before."""
    return json.dumps({"at": f"2026-01-01T00:00:00.{number:06}+00:00", "id": f"id-{number}", "name": "call:refused"}, sort_keys=True)


async def made_old(path: Path, bodies: Sequence[tuple[int, str]]) -> AsyncEngine:
    """A database of the schema before, with these records."""
    engine = open_engine(f"sqlite+aiosqlite:///{path}")
    async with writing(engine) as connection:
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), "0003"))
        await connection.exec_driver_sql("INSERT INTO audit_records (number, body) VALUES (?, ?)", list(bodies))
    return engine


async def failures(engine: AsyncEngine, path: Path) -> set[Kind]:
    """What `audit verify` finds, notes too."""
    async with writing(engine) as connection:
        trusted = Trusted(Signer(await own_key(connection, KEYRING, CHECKPOINT_SIGNING)).public)
    with scanning(path) as scan:
        return {one.kind for one in verify(scan, trusted).findings}


async def test_old_records_are_chained_and_sealed(tmp_path: Path) -> None:
    """Also across gaps in their numbers and over many pages, and whoever opens the state next puts the signature under them."""
    path = tmp_path / "gateway.db"
    engine = await made_old(path, [(number, old_body(number)) for number in range(1, 4_003) if number not in (2, 3_000)])
    await upgrade(engine)
    before = await failures(engine, path)
    await seal_old_records(engine, KEYRING)
    await seal_old_records(engine, KEYRING)

    assert before == {Kind.TAIL_UNCOVERED}
    assert await failures(engine, path) == set()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*), max(number), max(seq) FROM audit_records").fetchone() == (4_000,) * 3
        assert connection.execute("SELECT group_concat(seq) FROM audit_checkpoints").fetchone() == ("1000,2000,3000,4000",)
    await engine.dispose()


async def test_whoever_rewrites_them_later_gets_no_signature(tmp_path: Path) -> None:
    """With anything else on record they aren't sealed any more: what names their end tells of the edit."""
    path = tmp_path / "gateway.db"
    engine = await made_old(path, [(number, old_body(number)) for number in range(1, 11)])
    await upgrade(engine)
    await seal_old_records(engine, KEYRING)
    async with writing(engine) as connection:
        await record_changes(connection, KEYRING, [administrative(Name.TOKEN_ADDED, "test", "shop")])
        await connection.exec_driver_sql("DELETE FROM audit_checkpoints WHERE chain = ?", (BEFORE_CHAINS,))
    rewrite(tmp_path, BEFORE_CHAINS, 5)
    await seal_old_records(engine, KEYRING)

    assert Kind.RECORDS_ALTERED in await failures(engine, path)
    with sqlite3.connect(path) as aside:
        assert aside.execute("SELECT count(*) FROM audit_checkpoints WHERE chain = ?", (BEFORE_CHAINS,)).fetchone() == (0,)
    await engine.dispose()


@pytest.mark.parametrize("odd", ["[]", "{}", "not JSON", '{"id": "1", "name": "call:refused"}'])
async def test_a_damaged_record_is_named_and_nothing_is_changed(tmp_path: Path, odd: str) -> None:
    """The upgrade is refused by the record's number, and can be done once that is mended."""
    engine = await made_old(tmp_path / "gateway.db", [(1, old_body(1))])
    async with writing(engine) as connection:
        await connection.exec_driver_sql("DROP INDEX ix_audit_records_request_id")
        await connection.exec_driver_sql("ALTER TABLE audit_records RENAME TO kept")
        await connection.exec_driver_sql("CREATE TABLE audit_records (number INTEGER PRIMARY KEY, body TEXT, request_id TEXT)")
        await connection.exec_driver_sql("CREATE INDEX ix_audit_records_request_id ON audit_records (request_id)")
        await connection.exec_driver_sql("INSERT INTO audit_records VALUES (7, ?, NULL)", (odd,))

    with pytest.raises(StartRefused, match="the audit record 7 is damaged"):
        await upgrade(engine)

    async with writing(engine) as connection:
        await connection.exec_driver_sql("UPDATE audit_records SET body = ?", (old_body(7),))
    await upgrade(engine)
    await engine.dispose()


async def test_opening_the_state_seals_them(tmp_path: Path) -> None:
    """The first command or server after an upgrade does it."""
    engine = await made_old(tmp_path / "gateway.db", [(1, old_body(1))])
    await engine.dispose()
    async with open_state(settings_for(tmp_path)):
        pass

    with sqlite3.connect(tmp_path / "gateway.db") as connection:
        assert connection.execute("SELECT chain, seq FROM audit_checkpoints").fetchall() == [(BEFORE_CHAINS, 1)]
