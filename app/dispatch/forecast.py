"""The forecast: the sends that what waits will take, as they would be merged now, in their order. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from app.dispatch.fairness import FairQueue, FlowKey, Waiting

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
    _starts: list[float] = field(default_factory=list)
    _last_of: dict[FlowKey, int] = field(default_factory=dict)
    _equal: dict[tuple[str, frozenset[int]], int] = field(default_factory=dict)

    @classmethod
    def of(cls, queue: FairQueue, *, merging: bool) -> Forecast:
        """Play a queue through."""
        forecast, played = cls(), queue.copy()
        while len(played):
            forecast._add(played.take(merging=merging), played.last_start)
        return forecast

    def __len__(self) -> int:
        """How many sends it takes."""
        return len(self._sends)

    def sends_before(self, waiting: Waiting, start: float, *, merging: bool) -> int:
        """How many sends would go before that of a call that comes now.

        Args:
            waiting: the call.
            start: its tag, if nothing of its flow waits.
            merging: whether calls of different requests may share a send.
        """
        behind = self._last_of.get(waiting.flow)
        shared = self._equal.get(waiting.request) if waiting.request else None
        if shared is not None and shared >= (behind or 0):
            return shared
        if merging and waiting.cap:
            for place in range(behind or 0, len(self._sends)):
                if self._has_room(place, waiting):
                    return place
        return bisect_right(self._starts, start) if behind is None else self._after(behind, waiting)

    def _add(self, calls: list[Waiting], start: float) -> None:
        place = len(self._sends)
        self._sends.append(_Planned(calls[0], frozenset().union(*(call.ids for call in calls))))
        self._starts.append(max(start, self._starts[-1]) if self._starts else start)
        for call in calls:
            self._last_of[call.flow] = place
            if call.request:
                self._equal[call.request] = place

    def _has_room(self, place: int, waiting: Waiting) -> bool:
        head, ids = self._sends[place].head, self._sends[place].ids
        same = (head.subject, head.cap, head.group) == (waiting.subject, waiting.cap, waiting.group)
        return same and len(ids | waiting.ids) <= waiting.cap

    def _after(self, behind: int, waiting: Waiting) -> int:
        """The place of a call whose flow's last goes with the send `behind`: one turn of its weight later."""
        start = self._starts[behind] + 1 / (waiting.weight * waiting.priority.weight)
        return max(behind + 1, bisect_right(self._starts, start))
