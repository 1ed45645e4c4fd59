"""The fair queue: start-time fair queueing over callers, by weight; first in, first out within a caller. Pure; times in seconds.

The rule is Goyal, Vin and Cheng's (SIGCOMM 1996). A caller's first waiting call has a start tag: the lane's virtual time when it came, or
where the caller's last turn ended in that time, if later. The call with the smallest tag is next, and the virtual time is its tag. A turn
that costs `c` ends `c / weight` after its tag. Only the first call of each caller needs a tag, so a change costs O(log callers), whatever
the depth.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

from app.domain import Priority

__all__ = ["FairQueue", "Waiting"]

MOST_PASSED_OVER = 64
"""How many callers' calls may be found unfit to ride with a send before no more are looked at."""
VOID_KEPT = 64


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits: its ID, its caller's, until when it will wait, and what it weighs and asks for.

    `subject` is the operation and parameter, `ids` what is asked of them: equal ones share a send; an empty subject shares with none.
    Calls of one subject with a `cap` above 0 are merged up to so many IDs; those of a `group` only among themselves. `operation` names the
    breaker; `arrived`, in seconds, orders a caller's calls that come back. `of_job`: it is a job's, for which no connection is held.
    """

    call_id: str
    caller_id: str
    deadline: float
    weight: float = 1.0
    priority: Priority = Priority.INTERACTIVE
    subject: str = ""
    ids: frozenset[int] = frozenset()
    cap: int = 0
    group: str | None = None
    operation: str = ""
    arrived: float = 0.0
    of_job: bool = False

    @property
    def flow(self) -> FlowKey:
        """The flow that it belongs to."""
        return self.caller_id, self.priority

    @property
    def request(self) -> tuple[str, frozenset[int]] | None:
        """What equal calls have in common; None where none is equal."""
        return (self.subject, self.ids) if self.subject else None

    @property
    def kind(self) -> Kind | None:
        """What calls that may be merged at any time have in common; None where it may not be."""
        return (self.subject, self.cap) if self.ids and self.cap and self.group is None else None


FlowKey = tuple[str, Priority]
"""What is first in, first out: a caller's calls of one priority."""
Kind = tuple[str, int]
"""A subject, and the cap that merged sends of it have."""
Turn = tuple[float, int]
"""A place in the order: its tag, and where tags are equal, the number of its ticket."""


@dataclass(slots=True, eq=False)
class _Flow:
    """What waits of one flow. `ticket` is the number of its place in the order; None where nothing waits."""

    key: FlowKey
    weight: float = 1.0
    start: float = 0.0
    finish: float = 0.0
    ticket: int | None = None
    waiting: OrderedDict[str, Waiting] = field(default_factory=OrderedDict)
    kinds: Counter[Kind | None] = field(default_factory=Counter)

    @property
    def head(self) -> Waiting:
        return next(iter(self.waiting.values()))

    @property
    def turns(self) -> int:
        """How many of its calls may have to begin a send that others could have been part of: one may hide behind another kind."""
        return self.kinds.total() if len(self.kinds) > 1 or None in self.kinds else 0


@dataclass(slots=True)
class _Boarded:
    """The calls that go with one send, their flows beside them, and where each flow stood before."""

    calls: list[Waiting] = field(default_factory=list)
    flows: list[_Flow] = field(default_factory=list)
    starts: dict[_Flow, float] = field(default_factory=dict)
    places: dict[FlowKey, Turn] = field(default_factory=dict)


@dataclass(slots=True)
class FairQueue:
    """The calls that wait in one lane; `of_jobs` of them are jobs'."""

    _flows: dict[FlowKey, _Flow] = field(default_factory=dict)
    _tickets: list[tuple[float, int, FlowKey]] = field(default_factory=list)
    _where: dict[str, _Flow] = field(default_factory=dict)
    _equal: dict[tuple[str, frozenset[int]], dict[str, None]] = field(default_factory=dict)
    _by_caller: Counter[str] = field(default_factory=Counter)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _ids: Counter[Kind] = field(default_factory=Counter)
    _turns: int = 0
    of_jobs: int = 0
    _issued: int = 0
    last_turn: Turn = (0.0, 0)
    places: dict[FlowKey, Turn] = field(default_factory=dict)
    virtual: float = 0.0
    changes: int = 0

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._where

    def __iter__(self) -> Iterator[Waiting]:
        """All waiting calls, caller by caller."""
        for flow in self._flows.values():
            yield from flow.waiting.values()

    @property
    def callers(self) -> dict[str, int]:
        """How many calls of each caller wait, by the callers' IDs."""
        return dict(self._by_caller)

    def flows(self) -> dict[FlowKey, tuple[int, float]]:
        """How many calls of each flow wait, and what the flow weighs."""
        return {key: (len(flow.waiting), flow.weight) for key, flow in self._flows.items() if flow.waiting}

    def last_of(self, key: FlowKey) -> Waiting | None:
        """The last call of a flow; None where none waits."""
        flow = self._flows.get(key)
        return next(reversed(flow.waiting.values())) if flow and flow.waiting else None

    def of_caller(self, caller_id: str) -> int:
        """How many calls of one caller wait."""
        return self._by_caller.get(caller_id, 0)

    def most_sends(self, *, merging: bool) -> int:
        """At most so many sends are needed for all that waits, found without playing it through.

        Where flows hold calls of one kind only, the IDs of two such sends in a row together exceed the cap.
        """
        if not merging:
            return len(self)
        return min(len(self), self._turns + sum(2 * count // cap + 1 for (_, cap), count in self._ids.items()))

    def turn_of(self, waiting: Waiting) -> Turn:
        """The place in the order that a call would get now which is the first of its flow: behind those that are equal to it."""
        flow = self._flows.get(waiting.flow)
        return max(self.virtual, flow.finish) if flow else self.virtual, self._issued

    def add(self, waiting: Waiting) -> None:
        """Take a call in, behind its caller's others."""
        self._put(waiting, first=False)

    def put_back(self, calls: Iterable[Waiting]) -> None:
        """Take calls in again that had their turn in vain, before their callers' later ones, in this order."""
        for waiting in reversed(list(calls)):
            self._put(waiting, first=True)

    def restore(self, places: Mapping[FlowKey, Turn]) -> None:
        """Give flows back the places that they had before a turn which was lost, and take nothing for it.

        Args:
            places: what `places` was when that turn was taken.
        """
        for key, (start, ticket) in places.items():
            flow = self._flows.get(key)
            if flow is None or not flow.waiting or (start, ticket) >= (flow.start, flow.ticket or 0):
                continue
            flow.start, flow.ticket = start, ticket
            flow.finish = min(flow.finish, start)
            heapq.heappush(self._tickets, (start, ticket, key))
            self.changes += 1

    def remove(self, call_id: str) -> Waiting | None:
        """Take a call out, wherever it stands; None where it doesn't wait."""
        flow = self._where.get(call_id)
        if flow is None:
            return None
        waiting = self._detach(flow, call_id)
        self._tidy()
        return waiting

    def expire(self, now: float) -> list[Waiting]:
        """Take out whatever has no time left."""
        gone = []
        while self._deadlines and self._deadlines[0][0] <= now:
            waiting = self.remove(heapq.heappop(self._deadlines)[1])
            if waiting is not None:
                gone.append(waiting)
        return gone

    def take(self, *, merging: bool, key: FlowKey | None = None) -> list[Waiting]:
        """Take the next call out, and with it those that share its send, each charged its part.

        Args:
            merging: whether calls of different requests may share a send.
            key: whose turn it is, where that is decided elsewhere; if nothing waits of that flow it is the next one's.

        Raises:
            LookupError: nothing waits.
        """
        chosen = self._flows.get(key) if key else None
        flow = chosen if chosen and chosen.waiting else self._next_flow()
        head = flow.head
        self.last_turn = flow.start, flow.ticket or 0
        self.virtual = max(self.virtual, flow.start)
        boarded = _Boarded()
        self._board(flow, boarded)
        self._board_equal(head, boarded)
        if merging and head.cap:
            self._board_others(head, boarded)
        self._charge(boarded)
        self.places = boarded.places
        self._tidy()
        return boarded.calls

    def copy(self) -> FairQueue:
        """A queue like this one that can be played through without changing it."""
        flows = {key: replace(flow, waiting=flow.waiting.copy(), kinds=flow.kinds.copy()) for key, flow in self._flows.items()}
        return replace(
            self,
            _flows=flows,
            _tickets=self._tickets.copy(),
            _where={call_id: flow for flow in flows.values() for call_id in flow.waiting},
            _equal={request: calls.copy() for request, calls in self._equal.items()},
            _by_caller=self._by_caller.copy(),
            _deadlines=self._deadlines.copy(),
            _ids=self._ids.copy(),
        )

    def _put(self, waiting: Waiting, *, first: bool) -> None:
        flow = self._flows.get(waiting.flow)
        if flow is None:
            flow = self._flows[waiting.flow] = _Flow(waiting.flow)
        flow.weight = waiting.weight * waiting.priority.weight
        if not flow.waiting:
            flow.start = max(self.virtual, flow.finish)
            self._issue(flow)
        flow.waiting[waiting.call_id] = waiting
        if first:
            earlier = list(takewhile(lambda other: other.arrived < waiting.arrived, flow.waiting.values()))
            for other in (waiting, *reversed(earlier)):
                flow.waiting.move_to_end(other.call_id, last=False)
        self._where[waiting.call_id] = flow
        self._by_caller[waiting.caller_id] += 1
        self.of_jobs += waiting.of_job
        heapq.heappush(self._deadlines, (waiting.deadline, waiting.call_id))
        if waiting.request:
            self._equal.setdefault(waiting.request, {})[waiting.call_id] = None
        self._count(flow, waiting, 1)
        self.changes += 1

    def _detach(self, flow: _Flow, call_id: str) -> Waiting:
        waiting = flow.waiting.pop(call_id)
        del self._where[call_id]
        self._by_caller[waiting.caller_id] -= 1
        self.of_jobs -= waiting.of_job
        if not self._by_caller[waiting.caller_id]:
            del self._by_caller[waiting.caller_id]
        if waiting.request:
            equal = self._equal[waiting.request]
            del equal[call_id]
            if not equal:
                del self._equal[waiting.request]
        self._count(flow, waiting, -1)
        if not flow.waiting:
            flow.ticket = None
        self.changes += 1
        return waiting

    def _count(self, flow: _Flow, waiting: Waiting, sign: int) -> None:
        kind = waiting.kind
        self._turns -= flow.turns
        flow.kinds[kind] += sign
        if not flow.kinds[kind]:
            del flow.kinds[kind]
        self._turns += flow.turns
        if kind:
            self._ids[kind] += sign * len(waiting.ids)
            if not self._ids[kind]:
                del self._ids[kind]

    def _issue(self, flow: _Flow) -> None:
        """Give a flow its place in the order; its earlier tickets are void."""
        self._issued += 1
        flow.ticket = self._issued
        heapq.heappush(self._tickets, (flow.start, self._issued, flow.key))

    def _next_flow(self) -> _Flow:
        """The flow whose turn it is; its ticket stays."""
        while self._tickets:
            _, number, key = self._tickets[0]
            flow = self._flows.get(key)
            if flow is not None and flow.ticket == number:
                return flow
            heapq.heappop(self._tickets)
        message = "nothing waits"
        raise LookupError(message)

    def _board(self, flow: _Flow, boarded: _Boarded) -> Waiting:
        boarded.starts.setdefault(flow, flow.start)
        boarded.places.setdefault(flow.key, (flow.start, flow.ticket or 0))
        waiting = self._detach(flow, flow.head.call_id)
        boarded.calls.append(waiting)
        boarded.flows.append(flow)
        return waiting

    def _board_equal(self, like: Waiting, boarded: _Boarded) -> None:
        """Those that ask for the very same, as far as no earlier call of their caller stays behind."""
        equal = self._equal.get(like.request) if like.request else None
        if not equal:
            return
        for flow in dict.fromkeys(self._where[call_id] for call_id in equal):
            while flow.waiting and flow.head.request == like.request and flow.head.group == like.group:
                self._board(flow, boarded)

    def _board_others(self, head: Waiting, boarded: _Boarded) -> None:
        """Those whose IDs still fit in, in fair order, as far as no earlier call of their caller stays behind.

        Until all have boarded, and what each owes is known, a flow moves on in the order as if the send were full.
        """
        ids = set(head.ids)
        for flow in boarded.starts:
            self._advance(flow, len(head.ids) / head.cap)
        passed_over: list[_Flow] = []
        while self._where and len(ids) < head.cap and len(passed_over) < MOST_PASSED_OVER:
            try:
                flow = self._next_flow()
            except LookupError:
                break
            heapq.heappop(self._tickets)
            if _rides(flow.head, head, ids):
                aboard = len(boarded.calls)
                waiting = self._board(flow, boarded)
                self._board_equal(waiting, boarded)
                ids |= waiting.ids
                for rider in boarded.flows[aboard:]:
                    self._advance(rider, len(waiting.ids) / head.cap)
            else:
                passed_over.append(flow)
        for flow in passed_over:
            heapq.heappush(self._tickets, (flow.start, flow.ticket or 0, flow.key))

    def _advance(self, flow: _Flow, cost: float) -> None:
        flow.start += cost / flow.weight
        if flow.waiting:
            self._issue(flow)

    def _charge(self, boarded: _Boarded) -> None:
        """Each caller owes its calls' part of the IDs, a call without IDs counting as one."""
        if len(boarded.calls) == 1:
            self._pay(boarded.flows[0], boarded.starts[boarded.flows[0]], 1.0)
            return
        whole = sum(max(1, len(waiting.ids)) for waiting in boarded.calls)
        owed: Counter[_Flow] = Counter()
        for flow, waiting in zip(boarded.flows, boarded.calls, strict=True):
            owed[flow] += max(1, len(waiting.ids))
        for flow, part in owed.items():
            self._pay(flow, boarded.starts[flow], part / whole)

    def _pay(self, flow: _Flow, start: float, cost: float) -> None:
        """A turn that began at `start` is charged."""
        flow.start = flow.finish = start + cost / flow.weight
        if flow.waiting:
            self._issue(flow)

    def _tidy(self) -> None:
        """Forget what no longer counts: all of it once nothing waits, void tickets and passed deadlines when they are many."""
        if not self._where:
            self._flows.clear()
            self._tickets.clear()
            self._deadlines.clear()
            self.virtual = 0.0
            return
        most = 2 * len(self._where) + VOID_KEPT
        if len(self._tickets) > most:
            self._tickets = [ticket for ticket in self._tickets if (flow := self._flows.get(ticket[2])) and flow.ticket == ticket[1]]
            heapq.heapify(self._tickets)
        if len(self._deadlines) > most:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._where]
            heapq.heapify(self._deadlines)
        if len(self._flows) > most:
            self._flows = {key: flow for key, flow in self._flows.items() if flow.waiting or flow.finish > self.virtual}


def _rides(waiting: Waiting, head: Waiting, ids: set[int]) -> bool:
    same = waiting.subject == head.subject and waiting.cap == head.cap and waiting.group == head.group
    return same and len(ids | waiting.ids) <= head.cap
