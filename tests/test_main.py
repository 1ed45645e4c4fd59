"""The house put together: what it sees of changes, and what it does when its database fails under it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.administration import Administration
from app.callers.directory import DirectoryContents
from app.opening import open_state
from app.vault import TokenChange
from tests.rig import rigged, until


async def test_a_revoked_key_is_refused_within_two_seconds(tmp_path: Path) -> None:
    """A running gateway, which nobody tells, lets a key in no longer than 2 s after it was revoked elsewhere."""
    async with rigged(tmp_path) as rig:
        before = (await rig.link("")).status_code
        async with open_state(rig.settings) as (engine, keyring):
            await Administration(engine, keyring, "test:elsewhere").rotate_key("order-service")
        revoked = time.monotonic()

        async def refused() -> bool:
            return (await rig.link("")).status_code == 401

        await until(refused)
        took = time.monotonic() - revoked

    assert before == 400
    assert took < 2


async def test_callers_known_go_on_while_the_database_can_not_be_read(tmp_path: Path) -> None:
    """The gateway isn't ready then, answers with what it knows, and recovers by itself."""
    async with rigged(tmp_path) as rig:
        aside = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(aside.execute, "ALTER TABLE revision RENAME TO revision_aside")

        async def ready() -> bool:
            return (await rig.client.get(f"{rig.url}/gateway/health/ready")).status_code == 200

        async def unready() -> bool:
            return not await ready()

        await until(unready)
        reasons = (await rig.client.get(f"{rig.url}/gateway/health/ready")).json()["reasons"]
        known = await rig.link("")
        await asyncio.to_thread(aside.execute, "ALTER TABLE revision_aside RENAME TO revision")
        aside.close()
        await until(ready)

    assert reasons == ["tokens and callers can't be read"]
    assert known.json()["type"] == "/gateway/problems/parameter-missing"


async def test_what_was_read_later_is_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refreshes at once, one of which read before a change and is slow, leave the gateway with the change."""
    async with rigged(tmp_path) as rig:
        read, began, go_on = rig.house.directory.read, asyncio.Event(), asyncio.Event()

        async def slowly(connection: AsyncConnection) -> DirectoryContents:
            contents = await read(connection)
            if not began.is_set():
                began.set()
                await go_on.wait()
            return contents

        monkeypatch.setattr(rig.house.directory, "read", slowly)
        async with open_state(rig.settings) as (engine, keyring):
            administration = Administration(engine, keyring, "test:rig")
            await administration.change_token("shop", TokenChange(rate=3))
            slow = asyncio.create_task(rig.house.refresh())
            await began.wait()
            await administration.change_token("shop", TokenChange(rate=4))
        quick = asyncio.create_task(rig.house.refresh())
        await asyncio.wait([quick], timeout=0.2)
        go_on.set()
        await asyncio.gather(slow, quick)
        rates = [token.rate for token in rig.house.vault.tokens]

        [revision] = {track.lane.policy.revision for track in rig.house.dispatcher._tracks.values()}

    assert rates == [4]
    assert revision == rig.house._revision
