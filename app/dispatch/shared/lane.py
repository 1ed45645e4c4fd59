"""A lane whose turns are taken in Valkey: its queue is this replica's own, its slots, guard, pause and breakers are shared. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.dispatch.breaker import Breaker
from app.dispatch.fairness import FlowKey
from app.dispatch.lane import Lane, Release
from app.dispatch.shared.slots import Claim, SharedGuard, SharedWindow
from app.dispatch.window import NEVER
from app.domain import Priority

__all__ = ["Penalty", "SharedLane", "flow_key", "flow_name"]

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Penalty:
    """A 429 to a send that was released then; until when everybody pauses for it."""

    released: float
    until: float


@dataclass(slots=True)
class SharedLane(Lane):
    """One token's turn, as one of several replicas sees it.

    `penalty`, `verdicts` and `resumed` are what Valkey is to be told next; `back` are the places, by flow and tag, of turns that were lost.
    """

    guard: SharedGuard = field(init=False)
    window: SharedWindow = field(init=False)
    penalty: Penalty | None = None
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    resumed: bool = False
    back: list[dict[str, Any]] = field(default_factory=list)
    _own_pause: float = -NEVER
    _shared_pause: float = -NEVER

    def __post_init__(self) -> None:
        self.guard = SharedGuard(self.policy.pacing)
        self.window = SharedWindow(self.policy.slots, self.policy.per, self.guard)

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell at once."""
        return bool(self.penalty or self.verdicts or self.resumed or self.back)

    def wants(self) -> dict[str, tuple[int, float]]:
        """How many places each flow needs here, and what it weighs."""
        return {flow_name(key): (count, weight) for key, (count, weight) in self.queue.flows().items()}

    def release(self, claim: Claim) -> Release | None:
        """Release the calls whose turn was taken; None where none waits any more, and the turn is given back."""
        self.window.begin(claim)
        self.in_flight += 1
        if not len(self.queue):
            self.ended(claim, claim.released)
            return None
        calls = tuple(self.queue.take(merging=self.merging, key=flow_key(claim.flow)))
        return Release(calls, claim, self.queue.places)

    def ended(self, hold: Any, at: float) -> None:  # noqa: ANN401 - a claim; the base says a hold
        """The send is over; where it wasn't written its place is kept for it."""
        Lane.ended(self, hold, at)
        if hold.written is None:
            self.back.append({"flow": hold.flow, "tag": hold.tag})

    def pause(self, until: float) -> None:
        """Send nothing from here before this time."""
        self._own_pause = max(self._own_pause, until)
        self.open_from = max(self.open_from, until)

    def limited(self, released: float, now: float) -> bool:
        """A send was answered 429: all replicas are to pause as this one does."""
        self.penalty = Penalty(released, max(self.open_from, now))
        return False

    def refused(self, operation: str, now: float) -> bool:
        """The upstream refused the token."""
        breaker = self.breakers.get(operation)
        self.verdicts.append({"operation": operation, "probe": bool(breaker and breaker.probe)})
        return Lane.refused(self, operation, now)

    def accepted(self, operation: str) -> None:
        """The upstream took the token."""
        if operation in self.breakers:
            self.verdicts.append({"operation": operation, "accepted": True})
        Lane.accepted(self, operation)

    def resume(self) -> None:
        """Close the breakers, everywhere."""
        self.resumed = True
        Lane.resume(self)

    def forget(self, now: float) -> None:
        """Nothing: what was sent is Valkey's to know."""

    def adopt_reply(self, reply: Mapping[str, Any], now: float) -> list[str]:
        """Take over what Valkey knows of the lane.

        Returns:
            The operations whose breakers are open and weren't here.
        """
        self.window.ends = [now + left / MICROSECONDS for left in reply["slots"]]
        trip = reply.get("trip")
        self.guard.adopt(reply["answers"], reply["margin"] / MICROSECONDS, None if trip is None else trip / MICROSECONDS)
        self._shared_pause = now + reply["open"] / MICROSECONDS if reply["open"] else -NEVER
        self.open_from = max(self._shared_pause, self._own_pause)
        return [] if self.verdicts or self.resumed else self._adopt_breakers(reply.get("breakers", ()), now)

    def _adopt_breakers(self, told: Sequence[Mapping[str, Any]], now: float) -> list[str]:
        opened = []
        adopted: dict[str, Breaker] = {}
        for one in told:
            operation, known = one["operation"], self.breakers.get(one["operation"])
            probes_from = now + one["probes"] / MICROSECONDS if "probes" in one else None
            breaker = Breaker(one["refusals"], probes_from, known.probe if known else None, one["pause"] / MICROSECONDS)
            if breaker.open and not (known and known.open):
                opened.append(operation)
            adopted[operation] = breaker
        self.breakers = adopted
        return opened


def flow_name(key: FlowKey) -> str:
    """A flow's name in Valkey."""
    caller, priority = key
    return f"{priority.value}:{caller}"


def flow_key(name: str) -> FlowKey:
    """The flow of that name."""
    priority, _, caller = name.partition(":")
    return caller, Priority(priority)
