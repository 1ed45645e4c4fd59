"""The lane under anything that can happen, in any order: after every step no window is broken, no call lost, nothing answered twice.

`LANE_MACHINE_EXAMPLES=20000` makes it a long run.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, register_random, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.dispatch.conclusion import JITTER
from app.dispatch.lane import LanePolicy, Waiting
from app.domain import (
    Garbled,
    Linked,
    Operation,
    Outcome,
    Pacing,
    Parameter,
    Priority,
    RateLimited,
    Refused,
    TimedOut,
    TokenRejected,
    Unreachable,
)
from tests.calls import LINK, make_call
from tests.dispatch.stage import waits
from tests.dispatch.world import Flight, World

EXAMPLES = int(os.environ.get("LANE_MACHINE_EXAMPLES", "100"))
CALLERS = {"a": 1, "b": 1, "c": 2, "d": 4}
PARAMETERS = (Parameter("orderIds", 5, coalesce=True), Parameter("orderItemIds", 5))
ONCE = replace(LINK, idempotent=False)
REPEATABLE = replace(LINK, idempotent=True)
STRANGER = 999
DEEPEST = 40

register_random(JITTER)

PICK = st.integers(0, 7)
STATUSES = st.sampled_from([400, 404, 409, 413, 414, 422, 500, 502, 503, 504])
REFUSALS = st.one_of(
    st.builds(Refused, STATUSES, st.just("")),
    st.builds(Refused, st.sampled_from([400, 404, 422]), st.just("")),
    st.builds(RateLimited, st.sampled_from([None, 0.0, 0.5, 3.0])),
    st.builds(TokenRejected, st.sampled_from([401, 403]), st.just("")),
    st.builds(Garbled, st.just("not JSON"), st.just(200)),
)
LINKED = st.sets(st.integers(1, 9), min_size=1).map(lambda ids: Linked(tuple(ids)))
STRANGE = st.just(Linked((1, STRANGER)))
ANSWERS = st.one_of(LINKED, LINKED, REFUSALS, REFUSALS, STRANGE)
LOST = st.sampled_from([TimedOut("no answer"), Unreachable("reset", uncertain=True)])


@dataclass(frozen=True)
class Wish:
    """What a caller asks for, and how many seconds it will wait."""

    caller: str
    ids: list[int]
    parameter: Parameter
    operation: Operation
    priority: Priority
    patience: float


WISHES = st.builds(
    Wish,
    caller=st.sampled_from(sorted(CALLERS)),
    ids=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    parameter=st.sampled_from([PARAMETERS[0], *PARAMETERS]),
    operation=st.sampled_from([REPEATABLE, REPEATABLE, ONCE]),
    priority=st.sampled_from(Priority),
    patience=st.sampled_from([300.0, 300.0, 300.0, 300.0, 60.0, 10.0, 2.0, 0.0]),
)


class LaneMachine(RuleBasedStateMachine):
    """Every rule is something that happens; after it the driver pumps the lane, as it always does."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.until: float | None = None

    @initialize(
        pacing=st.sampled_from(Pacing),
        shape=st.sampled_from([(2, 1.0), (2, 1.0), (1, 0.5), (3, 1.0)]),
        in_flight=st.sampled_from([8, 3]),
        ahead=st.sampled_from([0.0, 0.05, 0.25]),
    )
    def begin(self, pacing: Pacing, shape: tuple[int, float], in_flight: int, ahead: float) -> None:
        """A lane, cold, of one pacing or the other, whose sends are released at their turn or so long ahead of it."""
        policy = LanePolicy(*shape, pacing=pacing, depth=DEEPEST, caller_depth=20, in_flight=in_flight)
        self.world = World(policy, self.loop, ahead)

    @rule(wishes=st.lists(WISHES, min_size=1, max_size=6), copies=st.sampled_from([1, 1, 2]))
    def arrive(self, wishes: list[Wish], copies: int) -> None:
        """Calls arrive in a row, some with others that are alike."""
        for wish in wishes * copies:
            self._arrive(wish)
        self._pump()

    @precondition(lambda self: self.world.tickets)
    @rule(pick=st.integers(0, DEEPEST))
    def hang_up(self, pick: int) -> None:
        """A caller leaves, wherever its call is."""
        tickets = list(self.world.tickets.values())
        self.world.leave(tickets[pick % len(tickets)])
        self._pump()

    @rule(seconds=st.one_of(st.floats(0.0, 1.5), st.sampled_from([0.25, 1.0, 1.25, 3.0, 20.0])), timers_first=st.booleans())
    def time_passes(self, seconds: float, *, timers_first: bool) -> None:
        """The loop comes round again; after a stall, late."""
        self._go_on(self.world.now + seconds, timers_first=timers_first)

    @precondition(lambda self: self.until is not None)
    @rule(early=st.sampled_from([0.0, 0.0, 0.05]), timers_first=st.booleans())
    def the_time_comes(self, early: float, *, timers_first: bool) -> None:
        """The moment that the lane named, or a little before."""
        assert self.until is not None
        self._go_on(max(self.world.now, self.until - early), timers_first=timers_first)

    @precondition(lambda self: any(flight.hold.written is None for flight in self.world.flights))
    @rule(pick=PICK, fails=st.sampled_from([False] * 7 + [True]))
    def write(self, pick: int, *, fails: bool) -> None:
        """A send's request leaves, or the send fails before."""
        flight = self._flight(pick, written=False)
        if fails:
            self.world.end(flight, Unreachable("no route", uncertain=False))
        else:
            self.world.write(flight)
        self._pump()

    @precondition(lambda self: any(flight.hold.written is not None for flight in self.world.flights))
    @rule(pick=PICK, outcome=ANSWERS)
    def answer(self, pick: int, outcome: Outcome) -> None:
        """The upstream did what was asked, or some of it, or answered something else."""
        self._answered(self._flight(pick, written=True), outcome)

    @rule(outcomes=st.lists(ANSWERS, min_size=1, max_size=2), rounds=st.integers(1, 5), seconds=st.floats(0.0, 0.5))
    def go_round(self, outcomes: list[Outcome], rounds: int, seconds: float) -> None:
        """For a while all goes smoothly: what is released leaves at once, and is answered a little later."""
        for turn in range(rounds):
            if self.until is not None:
                self._go_on(max(self.world.now, self.until), timers_first=False)
            flights = list(self.world.flights)
            for flight in flights:
                if flight.hold.written is None:
                    self.world.write(flight)
            self._go_on(self.world.now + seconds, timers_first=False)
            for flight in flights:
                self._answered(flight, outcomes[turn % len(outcomes)])

    @precondition(lambda self: any(flight.hold.written is not None for flight in self.world.flights))
    @rule(pick=PICK)
    def answer_in_part(self, pick: int) -> None:
        """A status line is read; the rest isn't there yet."""
        flight = self._flight(pick, written=True)
        if flight.hold.answered is None:
            self.world.answer(flight)
        self._pump()

    @precondition(lambda self: any(flight.hold.written is not None for flight in self.world.flights))
    @rule(pick=PICK, outcome=LOST)
    def lose(self, pick: int, outcome: Outcome) -> None:
        """An answer, or its rest, is lost or given up."""
        self.world.end(self._flight(pick, written=True), outcome)
        self._pump()

    @rule(really=st.sampled_from([False] * 19 + [True]))
    def restart(self, *, really: bool) -> None:
        """The process ends and begins anew at once."""
        if really:
            self.world.restart()
            self._pump()

    @invariant()
    def all_is_in_its_place(self) -> None:
        """Checked after every step."""
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """Whoever still waits has its turn in the end, though another caller always has calls waiting."""
        if hasattr(self, "world"):
            self._check_starvation()
        self.loop.close()

    def _arrive(self, wish: Wish) -> None:
        deadline = self.world.now + wish.patience
        made = make_call(*wish.ids, caller=wish.caller, arrived=self.world.now, deadline=deadline)
        caller = replace(made.caller, weight=CALLERS[wish.caller])
        call = replace(made, caller=caller, operation=wish.operation, parameter=wish.parameter, priority=wish.priority)
        waiting = Waiting(
            call.id,
            caller.id,
            deadline,
            weight=caller.weight,
            priority=call.priority,
            subject=f"{call.operation.idempotent} {call.parameter.name}",
            ids=frozenset(call.ids),
            cap=call.parameter.max_items if call.parameter.coalesce else 0,
            operation=call.operation.id,
        )
        self.world.enter(call, waiting)

    def _answered(self, flight: Flight, outcome: Outcome) -> None:
        if flight.hold.answered is None:
            self.world.answer(flight)
        self.world.end(flight, outcome)
        self._pump()

    def _flight(self, pick: int, *, written: bool) -> Flight:
        flights = [flight for flight in self.world.flights if (flight.hold.written is not None) is written]
        return flights[pick % len(flights)]

    def _go_on(self, now: float, *, timers_first: bool) -> None:
        self.world.now = now
        if timers_first:
            self.world.timers()
        self._pump()
        self.world.timers()
        self._pump()

    def _pump(self) -> None:
        self.until = self.world.pump()

    def _check_starvation(self) -> None:
        queue, world = self.world.lane.queue, self.world
        left = {waiting.call_id for waiting in queue}
        most = 8 * max(CALLERS.values()) * (len(world.number) + 1) + len(left)
        for turn in range(most if left else 0):
            queue.add(waits(f"flood-{turn}", weight=float(max(CALLERS.values()))))
            left -= {call.call_id for call in queue.take(merging=world.lane.merging)}
            if not left:
                break

        assert not left


TestLane = LaneMachine.TestCase
TestLane.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
