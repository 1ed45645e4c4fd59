"""A lane whose turns are taken in Valkey: its queue is this replica's own, its slots, guard, pause and breakers are shared. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from app.dispatch.breaker import Breaker
from app.dispatch.fairness import FlowKey
from app.dispatch.lane import Lane, LaneState, Release, Waiting
from app.dispatch.shared.slots import Claim, SharedGuard, SharedWindow
from app.dispatch.window import NEVER
from app.domain import Priority

__all__ = ["Penalty", "SharedLane", "flow_key", "flow_name"]

MICROSECONDS = 1_000_000
HERE, ELSEWHERE = "here", "elsewhere"
"""Where a breaker is probed; `elsewhere` stands for a call's ID of another replica, and is none of this one's."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """A 429 to a send that was released then; until when everybody pauses for it."""

    released: float
    until: float


@dataclass(slots=True)
class SharedLane(Lane):
    """One token's turn, as one of several replicas sees it.

    `penalty`, `verdicts` and `resumed` are what Valkey is to be told next; each verdict has a number of its own from `numbers`, so that it
    counts once. `before_newcomer` is how many places, of all replicas, come before that of a caller that has none.
    """

    guard: SharedGuard = field(init=False)
    window: SharedWindow = field(init=False)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    penalty: Penalty | None = None
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    resumed: bool = False
    before_newcomer: int = 0
    _granted_probes: set[str] = field(default_factory=set)
    _own_pause: float = -NEVER
    _shared_pause: float = -NEVER
    _told_at: float = -NEVER

    def __post_init__(self) -> None:
        self.guard = SharedGuard(self.policy.pacing)
        self.window = SharedWindow(self.policy.slots, self.policy.per, self.guard)

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell at once. That a token was taken is news only where it wasn't before."""
        news = (verdict for verdict in self.verdicts if not verdict.get("accepted") or verdict["operation"] in self.breakers)
        return bool(self.penalty or self.resumed or any(news))

    @property
    def is_held_back(self) -> bool:
        """Whether a breaker is open, of whose end only Valkey can tell."""
        return any(breaker.open for breaker in self.breakers.values())

    def wants(self) -> dict[str, tuple[int, float]]:
        """How many places each flow needs here, and what it weighs."""
        return {flow_name(key): (waiting, weight) for key, (waiting, weight) in self.queue.flows().items()}

    def probes(self) -> list[str]:
        """The operations whose breakers are open and that a call of this replica would probe."""
        return [operation for operation, breaker in self.breakers.items() if breaker.probe not in {None, ELSEWHERE}]

    def release(self, claim: Claim) -> Release | None:
        """Release the calls whose turn was taken; None where none may go, and the turn is given back."""
        self.window.begin(claim)
        self.in_flight += 1
        if len(self.queue):
            calls = tuple(self.queue.take(merging=self.merging, key=flow_key(claim.flow)))
            places = self.queue.places
            if not any(map(self._is_ungranted_probe, calls)):
                return Release(calls, claim, places)
            self.queue.put_back(calls)
            self.queue.restore(places)
        self.ended(claim, claim.released)
        return None

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
        self._note_verdict(operation, probe=operation in self.probes())
        return Lane.refused(self, operation, now)

    def accepted(self, operation: str) -> None:
        """The upstream took the token: what others found before counts no more, even if it isn't known here yet."""
        self._note_verdict(operation, accepted=True)
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
            The operations whose breakers are open and weren't here, or which another replica's call probes while one of this one would.
        """
        self.window.ends = [NEVER if left < 0 else now + left / MICROSECONDS for left in reply["slots"]]
        trip = reply.get("trip")
        self.guard.adopt(reply["answers"], reply["margin"] / MICROSECONDS, None if trip is None else trip / MICROSECONDS)
        self._shared_pause = now + reply["open"] / MICROSECONDS if reply["open"] else -NEVER
        self.open_from = max(self._shared_pause, self._own_pause)
        self.waiting_elsewhere, self.before_newcomer, self._told_at = reply["waiting_elsewhere"], reply["before_newcomer"], now
        return [] if self.verdicts or self.resumed else self._adopt_breakers(reply.get("breakers", ()), now)

    def newcomers_wait(self, now: float) -> float:
        """How long, in seconds from now, until a call of a caller that has none waiting would have its answer, here and elsewhere."""
        here = Lane.newcomers_wait(self, now)
        return max(here, self.wait_after(self.before_newcomer, now)) if self._left_elsewhere(now) else here

    def state(self, now: float) -> LaneState:
        """The quota as of now: what waits elsewhere has the free slots first."""
        here = Lane.state(self, now)
        return replace(here, remaining=max(0, here.remaining - self._left_elsewhere(now)))

    def _left_elsewhere(self, now: float) -> int:
        """How many calls wait elsewhere, if none has come since that was told and all slots were used."""
        if not self.waiting_elsewhere:
            return 0
        return max(0, self.waiting_elsewhere - int((now - self._told_at) * self.policy.slots / self.policy.per))

    def _note_verdict(self, operation: str, **verdict: object) -> None:
        self.verdicts.append({"number": next(self.numbers), "operation": operation, **verdict})

    def _is_ungranted_probe(self, waiting: Waiting) -> bool:
        breaker = self.breakers.get(waiting.operation)
        return breaker is not None and breaker.probe == waiting.call_id and waiting.operation not in self._granted_probes

    def _adopt_breakers(self, told: Sequence[Mapping[str, Any]], now: float) -> list[str]:
        held_back = []
        adopted: dict[str, Breaker] = {}
        self._granted_probes = {one["operation"] for one in told if one.get("probing") == HERE}
        for one in told:
            operation, known = one["operation"], self.breakers.get(one["operation"])
            own = known.probe if known and known.probe != ELSEWHERE else None
            probes_from = now + one["probes"] / MICROSECONDS if "probes" in one else None
            elsewhere = one.get("probing") == ELSEWHERE
            breaker = Breaker(one["refusals"], probes_from, ELSEWHERE if elsewhere else own, one["pause"] / MICROSECONDS)
            if breaker.open and (not (known and known.open) or (elsewhere and own)):
                held_back.append(operation)
            adopted[operation] = breaker
        self.breakers = adopted
        return held_back


def flow_name(key: FlowKey) -> str:
    """A flow's name in Valkey."""
    caller, priority = key
    return f"{priority.value}:{caller}"


def flow_key(name: str) -> FlowKey:
    """The flow of that name."""
    priority, _, caller = name.partition(":")
    return caller, Priority(priority)
