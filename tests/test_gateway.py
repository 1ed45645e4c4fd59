"""What the gateway doesn't send, though it was taken in."""

from __future__ import annotations

import pytest

from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_another_process_may_have_ended_isnt_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waited while the process stood still for so long that others took it for dead ends unsent."""
    await rig.reset()
    monkeypatch.setattr(rig.house.audit, "held_since", lambda _: False)
    answer = await rig.link("orderIds=1001")

    assert (answer.status_code, answer.json()["type"]) == (504, "/gateway/problems/deadline-exceeded")
    assert await rig.arrivals() == []
