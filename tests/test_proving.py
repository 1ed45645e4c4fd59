"""The record of a real gateway is proven while it serves and afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.audit.verification import Kind, Verified, verify
from app.proving import read_only, trusted_keys
from app.settings import Settings
from tests.rig import rigged


def verified(settings: Settings) -> Verified:
    """Verify as the command does."""
    with read_only(settings) as scan:
        return verify(scan, trusted_keys(settings, scan, ()))


async def test_the_record_of_a_gateway_is_proven_beside_it(tmp_path: Path) -> None:
    """While calls are made it holds, but for its uncovered tail; when the gateway has ended, its end is sealed too."""
    async with rigged(tmp_path) as rig:
        await rig.link("orderIds=1001,1002")
        await rig.link("orderIds=none")
        calls = asyncio.gather(*(rig.link(f"orderIds={number}") for number in range(2001, 2005)))
        beside = [await asyncio.to_thread(verified, rig.settings) for _ in range(3)]
        await calls
        beside.append(await asyncio.to_thread(verified, rig.settings))
    afterwards = verified(rig.settings)

    assert all(one.holds for one in beside)
    assert {finding.kind for one in beside for finding in one.findings} == {Kind.TAIL_UNCOVERED}
    assert afterwards.records > beside[-1].records - 1
    assert afterwards.holds
    assert list(afterwards.findings) == []
