"""The forecast: the sends that what waits will take, as they would be merged now, in their order. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from app.dispatch.fairness import FairQueue, FlowKey, Turn, Waiting

__all__ = ["Forecast"]


@dataclass(frozen=True, slots=True)
class _Planned:
    """One send to come: the request it begins with, and all its IDs."""

    head: Waiting
    ids: frozenset[int]


@dataclass(slots=True)
class Forecast:
    """What a queue will do if nothing is added to it and nothing leaves it."""

    _sends: list[_Planned] = field(default_factory=list)
    _turns: list[Turn] = field(default_factory=list)
    _last_of: dict[FlowKey, int] = field(default_factory=dict)
    _next_of: dict[FlowKey, Turn] = field(default_factory=dict)
    _equal: dict[tuple[str, frozenset[int]], dict[int, None]] = field(default_factory=dict)

    @classmethod
    def of(cls, queue: FairQueue, *, merging: bool) -> Forecast:
        """Play a queue through."""
        forecast, played = cls(), queue.copy()
        while len(played):
            forecast._add(played.take(merging=merging), played)
        return forecast

    def __len__(self) -> int:
        """How many sends it takes."""
        return len(self._sends)

    def sends_before(self, waiting: Waiting, turn: Turn, *, merging: bool) -> int:
        """How many sends would go before that of a call that comes now: until its own turn, or until one that it can share before that.

        Args:
            waiting: the call.
            turn: its place in the order, if nothing of its flow waits.
            merging: whether calls of different requests may share a send.
        """
        behind = self._last_of.get(waiting.flow)
        if behind is None:
            first, place = 0, bisect_right(self._turns, turn)
        else:
            first, place = behind, max(behind + 1, bisect_right(self._turns, self._next_of[waiting.flow]))
        equal = self._equal.get(waiting.request, {}) if waiting.request else {}
        place = min([place, *(shared for shared in equal if shared >= first)])
        if merging and waiting.cap:
            place = next((shared for shared in range(first, place) if self._has_room(shared, waiting)), place)
        return place

    def _add(self, calls: list[Waiting], played: FairQueue) -> None:
        place = len(self._sends)
        self._sends.append(_Planned(calls[0], frozenset().union(*(call.ids for call in calls))))
        self._turns.append(played.last_turn)
        for call in calls:
            self._last_of[call.flow] = place
            self._next_of[call.flow] = played.turn_of(call)
            if call.request and call.group is None:
                self._equal.setdefault(call.request, {})[place] = None

    def _has_room(self, place: int, waiting: Waiting) -> bool:
        head, ids = self._sends[place].head, self._sends[place].ids
        same = (head.subject, head.cap, head.group) == (waiting.subject, waiting.cap, waiting.group)
        return same and len(ids | waiting.ids) <= waiting.cap
