"""The house put together: what it sees of changes, and what it does when its database fails under it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from app.administration import Administration
from app.opening import open_state
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
        aside = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        aside.execute("ALTER TABLE revision RENAME TO revision_aside")

        async def ready() -> bool:
            return (await rig.client.get(f"{rig.url}/gateway/health/ready")).status_code == 200

        async def unready() -> bool:
            return not await ready()

        await until(unready)
        reasons = (await rig.client.get(f"{rig.url}/gateway/health/ready")).json()["reasons"]
        known = await rig.link("")
        aside.execute("ALTER TABLE revision_aside RENAME TO revision")
        aside.close()
        await until(ready)

    assert reasons == ["tokens and callers can't be read"]
    assert known.json()["type"] == "/gateway/problems/parameter-missing"
