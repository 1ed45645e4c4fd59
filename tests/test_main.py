"""The house put together, when its database fails under it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.rig import rigged, until


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
