"""A replica's lane over a real Valkey, with everything about it but the gateway: what it releases is sent as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from app.dispatch.fairness import Waiting
from app.dispatch.lane import LanePolicy, Release
from app.dispatch.shared.address import valkey_connections
from app.dispatch.shared.lanes import SharedTurns
from app.dispatch.shared.link import Link
from app.dispatch.shared.slots import Claim
from app.dispatch.shared.turns import LaneTurns
from tests.cli.processes import PATIENCE_SECONDS
from tests.dispatch.stage import waits

__all__ = ["Replica", "replica"]

LANES = count(1)


@dataclass
class Replica:
    """One lane of one replica. Its calls never run out of time; `released` are the claims it got, `put_out` what was put out and why."""

    link: Link
    turns: SharedTurns
    key: str
    policy: LanePolicy = field(default_factory=LanePolicy)
    released: list[Release] = field(default_factory=list)
    put_out: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    lead: float = 0.002
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.lane = self.turns.lane(self.policy)
        self.lane_turns: LaneTurns = self.turns.open(self.key, self.lane, self)
        self._wake_lanes = self.link.on_change
        self.link.on_change = self._told

    @property
    def now(self) -> float:
        """Monotonic."""
        return time.monotonic()

    def ahead(self, key: str) -> float:  # noqa: ARG002 - it has one lane
        """As long as the test says."""
        return self.lead

    def _told(self) -> None:
        self._wake_lanes()
        self._changed.set()

    def release(self, key: str, release: Release) -> None:  # noqa: ARG002
        """Keep it for the test."""
        self.released.append(release)
        self._changed.set()

    def put_out_unpaced(self, key: str) -> None:  # noqa: ARG002
        """Take note."""
        for waiting in list(self.lane.queue):
            self.lane.withdraw(waiting.call_id)
            self.put_out.append(f"unpaced {waiting.call_id}")
        self._changed.set()

    def put_out_hopeless(self, key: str) -> None:  # noqa: ARG002
        """Take note."""
        for waiting in [waiting for waiting in self.lane.queue if waiting.deadline <= self.lane.open_from]:
            self.lane.withdraw(waiting.call_id)
            self.put_out.append(f"hopeless {waiting.call_id}")
        self._changed.set()

    def put_out_suspended(self, key: str, operations: Iterable[str]) -> None:  # noqa: ARG002
        """Take note."""
        self.put_out += [f"suspended {operation}" for operation in operations]
        self._changed.set()

    def put_out_late(self, key: str, call_id: str, wait: float) -> None:  # noqa: ARG002
        """Take note."""
        self.lane.withdraw(call_id)
        self.put_out.append(f"late {call_id}")
        self._changed.set()

    def alert(self, key: str, alert: str) -> None:  # noqa: ARG002
        """Take note."""
        self.alerts.append(alert)

    def call(self, call_id: str, within: float = 1_000.0) -> None:
        """A call comes in, which waits so many seconds."""
        waiting: Waiting = waits(call_id, deadline=self.now + within)
        assert self.lane.enter(waiting, self.now) is None
        self.lane_turns.wake()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, which is looked at whenever something happens here.

        Raises:
            TimeoutError: it doesn't.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await self._changed.wait()
                self._changed.clear()

    async def turn(self) -> Claim:
        """Wait for the next turn, and until its slot is open; gives its claim."""
        await self.until(lambda: self.released)
        claim = self.released.pop(0).hold
        assert isinstance(claim, Claim)
        await asyncio.sleep(max(0.0, claim.opens - self.now))
        return claim

    def write(self, claim: Claim) -> None:
        """The request leaves now."""
        self.lane.written(claim, self.now, "peer")
        self.lane_turns.wake()

    def answer(self, claim: Claim) -> None:
        """Its answer is there, and it is over."""
        self.lane.answered(claim, self.now)
        self.lane.ended(claim, self.now)
        self.lane_turns.wake()

    def lose(self, claim: Claim) -> None:
        """Nothing was sent."""
        self.lane.ended(claim, self.now)
        self.lane_turns.wake()


@asynccontextmanager
async def replica(address: str, key: str = "", policy: LanePolicy | None = None) -> AsyncIterator[Replica]:
    """A replica that is in contact; its lane is one that nobody else has, unless named."""
    link = Link(valkey_connections(address))
    turns = SharedTurns(link, time.monotonic)
    one = Replica(link, turns, key or f"own-{next(LANES)}", policy or LanePolicy())
    async with link.kept():
        await one.until(lambda: link.connected)
        yield one
        await turns.finish()
