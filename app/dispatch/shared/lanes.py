"""The lanes of this replica whose turns are shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from app.dispatch.lane import LanePolicy
from app.dispatch.shared.lane import SharedLane
from app.dispatch.shared.link import Link
from app.dispatch.shared.turns import LaneTurns, Pacer
from app.dispatch.window import NEVER
from app.domain import new_id

__all__ = ["SharedTurns"]


class SharedTurns:
    """The lanes of this replica whose turns are shared.

    Args:
        link: runs the scripts.
        clock: the monotonic clock, in seconds.
        replica: this process's ID, of no other's.
    """

    def __init__(self, link: Link, clock: Callable[[], float], replica: str | None = None) -> None:
        self._link = link
        self._clock = clock
        self.replica = replica or new_id()
        self._lanes: dict[str, LaneTurns] = {}
        self._verdicts = count(1)
        link.on_change = self._wake_all

    @property
    def reachable(self) -> bool:
        """Whether turns can be taken, as far as is known."""
        return self._link.reachable

    def lane(self, policy: LanePolicy) -> SharedLane:
        """A lane; what was sent before is Valkey's to know."""
        return SharedLane(policy, -NEVER, numbers=self._verdicts)

    def open(self, key: str, lane: SharedLane, pacer: Pacer) -> LaneTurns:
        """Take turns for a lane."""
        turns = self._lanes[key] = LaneTurns(self._link, self.replica, key, lane, pacer)
        return turns

    def close(self, key: str) -> None:
        """The lane is not used any more."""
        self._lanes.pop(key).close()

    async def look(self) -> None:
        """Have Valkey tell of the lanes that aren't asked for anyway, as far as it is reached."""
        await asyncio.gather(*(turns.look() for turns in self._lanes.values()))

    async def finish(self) -> None:
        """Have Valkey know how the last sends went, as far as it is reached."""
        await asyncio.gather(*(turns.finish() for turns in self._lanes.values()))

    def _wake_all(self) -> None:
        for turns in list(self._lanes.values()):
            turns.wake_if_busy()
