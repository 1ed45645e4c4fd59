"""Several replicas, each of which may stand still, die, lose replies and send scripts that arrive late: no window breaks, no lane stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dispatch.shared.scripts import SECOND, Scripts
from tests.servers.valkey import Valkey

PER, MARGIN, VALID = SECOND, SECOND // 4, SECOND // 10
WAY = SECOND // 50
SLOTS = 2
STEPS = 120
REPLICAS = 3
FLOWS = ("interactive:a", "interactive:b", "batch:a")

World = Callable[[], int]


@dataclass
class Send:
    """A claim, and how far its send is."""

    claim: str
    opens: int
    usable_until: int
    written: int | None = None
    answered: bool = False
    ended: bool = False
    lost: int | None = None

    def report(self, now: int) -> dict[str, Any]:
        """As a replica tells it."""
        report: dict[str, Any] = {"id": self.claim, "ended": self.ended, "back": self.ended and self.written is None, "peer": "peer"}
        if self.answered and self.written is not None:
            report |= {"answered": max(0, now - self.written - 2 * WAY), "trip": 2 * WAY}
        if self.lost is not None:
            report["lost"] = now - self.lost
        return report


@dataclass
class Replica:
    """What one replica knows; it does one thing at a time, whenever it is its turn."""

    name: str
    scripts: Scripts
    random: Random
    arrivals: list[int]
    claims: count[int]
    wants: dict[str, int] = field(default_factory=dict)
    sends: list[Send] = field(default_factory=list)
    served: int = 0

    def act(self) -> None:
        """Do one of the things that a replica does."""
        acts = [self.take_in, self.ask, self.ask, self.send, self.send, self.hear, self.hear, self.ask_late, self.lose]
        self.random.choice(acts)()

    def take_in(self) -> None:
        """A call comes."""
        flow = self.random.choice(FLOWS)
        self.wants[flow] = self.wants.get(flow, 0) + 1

    def leave(self) -> None:
        """No call waits any more."""
        self.wants.clear()

    def ask(self) -> None:
        """Ask for a turn; now and then the reply is lost, and what was told is told again."""
        began, asked = self.scripts.now, self._asked()
        reply = self.scripts.ask("claim", self.name, **asked)
        if self.random.random() < 0.2:
            return
        self.sends = [send for send in self.sends if not send.ended]
        if grant := reply.get("grant"):
            took = self.random.choice([0, WAY])
            self.scripts.now += took
            self.sends.append(Send(asked["id"], self.scripts.now + int(grant["opens"]), began + VALID))
            self.wants[grant["flow"]] -= 1
            self.wants = {flow: number for flow, number in self.wants.items() if number}

    def ask_late(self) -> None:
        """A script that was given up arrives after a younger one."""
        asked = self._asked()
        self.ask()
        self.scripts.now += self.random.randrange(2 * SECOND)
        assert self.scripts.ask("claim", self.name, serial=0, **asked)["late"]

    def send(self) -> None:
        """Write what may be written, renewing what is too old; a turn that can't be used is given back."""
        for send in self.sends:
            if send.written is not None or send.ended or self.scripts.now < send.opens:
                continue
            if self.scripts.now >= send.usable_until and not self._renewed(send):
                send.ended = True
                flow = self.random.choice(FLOWS)
                self.wants[flow] = self.wants.get(flow, 0) + 1
                continue
            send.written = self.scripts.now
            self.arrivals.append(self.scripts.now + WAY)
            self.served += 1

    def hear(self) -> None:
        """Answers have come."""
        for send in self.sends:
            if send.written is not None and self.scripts.now >= send.written + 2 * WAY and send.lost is None:
                send.answered = send.ended = True

    def lose(self) -> None:
        """A connection is lost under way."""
        for send in self.sends[:1]:
            if send.written is not None and not send.ended:
                send.lost, send.ended = self.scripts.now, True

    def _renewed(self, send: Send) -> bool:
        began = self.scripts.now
        reply = self.scripts.ask("renew", self.name, renew=send.claim)
        send.usable_until = began + VALID
        return bool(reply.get("renewed"))

    def _asked(self) -> dict[str, Any]:
        return {
            "id": f"claim-{next(self.claims)}",
            "ahead": self.random.choice([0, WAY]),
            "wants": [{"flow": flow, "count": number, "weight": 1} for flow, number in self.wants.items()],
            "flying": [send.claim for send in self.sends if not send.ended],
            "reports": [send.report(self.scripts.now) for send in self.sends if send.ended],
        }


@pytest.mark.parametrize("proven", [False, True], ids=["learned", "proven"])
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_no_window_breaks_and_no_lane_stops(server: Valkey, seed: int, *, proven: bool) -> None:
    """Whatever happens to three replicas; once the trouble is over, what waits is served."""
    random, arrivals, claims, names = Random(seed), list[int](), count(), count()  # noqa: S311 - plays a world through
    with Scripts(server, policy={"proven": proven}) as scripts:
        replicas = [Replica(f"r{next(names)}", scripts, random, arrivals, claims) for _ in range(REPLICAS)]
        for _ in range(STEPS):
            random.choice(replicas).act()
            scripts.now += random.choice([0, 0, WAY, SECOND // 10, SECOND // 2])
            if random.random() < 0.02:
                scripts.run = f"run-{scripts.now}"
            if random.random() < 0.02:
                replicas[random.randrange(REPLICAS)] = Replica(f"r{next(names)}", scripts, random, arrivals, claims)
        last = Replica("last", scripts, random, arrivals, claims, wants={FLOWS[0]: 1})
        for one in replicas:
            one.leave()
        for _ in range(200):
            if last.served:
                break
            last.ask()
            scripts.now += SECOND // 20
            last.send()

        assert last.served
    arrivals.sort()
    assert all(later - first >= PER for first, later in zip(arrivals, arrivals[SLOTS:], strict=False))


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), weights=st.tuples(st.sampled_from([1, 2, 8]), st.sampled_from([1, 2, 8])))
def test_callers_are_served_by_weight_whichever_replicas_they_call(server: Valkey, seed: int, weights: tuple[int, int]) -> None:
    """While both wait, what two callers had, over their weights, differs by a turn of each and one for each slot beside the first."""
    random, served, most = Random(seed), dict.fromkeys(FLOWS[:2], 0), 8  # noqa: S311 - plays a world through
    weight = dict(zip(FLOWS, weights, strict=False))
    with Scripts(server, policy={"per": SECOND // 10}) as scripts:
        wants = {f"r{number}": {random.choice(FLOWS[:2]): most} for number in range(REPLICAS)}
        wants |= {"r-a": {FLOWS[0]: most}, "r-b": {FLOWS[1]: most}}
        claims, over = count(), dict[str, list[dict[str, Any]]]()
        while min(left := [sum(own.get(flow, 0) for own in wants.values()) for flow in FLOWS[:2]]) > most // 2:
            for replica in random.sample(sorted(wants), len(wants)):
                asked = [{"flow": flow, "count": number, "weight": weight[flow]} for flow, number in wants[replica].items()]
                claim = f"c{next(claims)}"
                reply = scripts.ask("claim", replica, id=claim, wants=asked, reports=over.pop(replica, []))
                if grant := reply.get("grant"):
                    over[replica] = [{"id": claim, "ended": True, "back": False, "answered": 0, "trip": WAY}]
                    wants[replica][grant["flow"]] -= 1
                    wants[replica] = {flow: number for flow, number in wants[replica].items() if number}
                    served[grant["flow"]] += 1
            scripts.now += SECOND // 50
            had = [served[flow] / weight[flow] for flow in FLOWS[:2]]

            assert abs(had[0] - had[1]) <= SLOTS * sum(1 / weight[flow] for flow in FLOWS[:2]), left
