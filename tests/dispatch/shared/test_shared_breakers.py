"""Breakers that all replicas share."""

from __future__ import annotations

from typing import Any

from app.dispatch.lane import LanePolicy
from app.dispatch.shared.lane import SharedLane
from app.dispatch.shared.slots import Claim
from app.dispatch.window import NEVER
from tests.dispatch.shared.scripts import SECOND, Scripts
from tests.dispatch.stage import waits

OPERATION = "link-orders"


class Replica:
    """A lane of one replica, which tells and hears by the withdraw script; its time is the scripts'."""

    def __init__(self, scripts: Scripts, name: str) -> None:
        self._scripts, self._name = scripts, name
        self.lane = SharedLane(LanePolicy(), -NEVER)

    @property
    def now(self) -> float:
        """In seconds."""
        return self._scripts.now / SECOND

    def tell(self) -> list[str]:
        """Tell what there is to tell; gives the operations whose calls are put out."""
        lane = self.lane
        told: dict[str, Any] = {"verdicts": lane.verdicts, "resumed": lane.resumed, "probes": lane.probes()}
        lane.verdicts, lane.resumed = [], False
        return lane.adopt_reply(self._scripts.ask("withdraw", self._name, **told), self.now)

    def refuse(self, times: int = 1) -> None:
        """The upstream refuses the token to so many calls."""
        for _ in range(times):
            self.lane.refused(OPERATION, self.now)
        self.tell()

    def probe(self, call_id: str) -> bool:
        """Have a call come; whether it is taken in, and may go."""
        if self.lane.enter(waits(call_id), self.now):
            return False
        return OPERATION not in self.tell()


def opened(scripts: Scripts) -> tuple[Replica, Replica]:
    """Two replicas that know of a breaker which opened a minute ago."""
    first, second = Replica(scripts, "r1"), Replica(scripts, "r2")
    first.refuse(3)
    assert second.tell() == [OPERATION]
    scripts.later(60.001)
    return first, second


def test_refusals_in_a_row_count_over_replicas(scripts: Scripts) -> None:
    """Two here and one there open it, and each is told as soon as it asks."""
    first, second = Replica(scripts, "r1"), Replica(scripts, "r2")
    first.refuse(2)
    assert second.tell() == []
    second.refuse()

    assert first.tell() == [OPERATION]
    assert first.lane.breakers[OPERATION].open
    assert second.lane.breakers[OPERATION].open


def test_an_acceptance_ends_the_row_wherever_it_is(scripts: Scripts) -> None:
    """Also at a replica that hasn't heard of the refusals yet."""
    first, second = Replica(scripts, "r1"), Replica(scripts, "r2")
    first.refuse(2)
    second.lane.accepted(OPERATION)
    assert not second.lane.has_news
    second.tell()
    first.refuse()

    assert not first.lane.breakers[OPERATION].open


def test_a_verdict_that_is_told_twice_counts_once(scripts: Scripts) -> None:
    """The reply to the first was lost."""
    verdict = {"number": 1, "operation": OPERATION, "probe": False}
    for _ in range(5):
        reply = scripts.ask("withdraw", verdicts=[verdict])

    assert [breaker["refusals"] for breaker in reply["breakers"]] == [1]


def test_one_call_probes_over_all_replicas(scripts: Scripts) -> None:
    """The first that asks; the other's is put out, and later ones aren't taken in."""
    first, second = opened(scripts)

    assert first.probe("a-1")
    assert not second.probe("b-1")
    assert not second.probe("b-2")
    assert second.lane.breakers[OPERATION].retry_after(second.now) is None


def test_a_probe_that_isnt_granted_is_not_released(scripts: Scripts) -> None:
    """A turn that comes before Valkey has heard of the probe is given back, and the call keeps its place."""
    first, _ = opened(scripts)
    assert first.lane.enter(waits("a-1"), first.now) is None
    assert first.lane.release(Claim(first.now, id="1", flow="interactive:a")) is None
    assert "a-1" in first.lane.queue
    first.tell()

    assert first.lane.release(Claim(first.now, id="2", flow="interactive:a"))


def test_a_refused_probe_doubles_the_pause_everywhere(scripts: Scripts) -> None:
    """1 min, then 2."""
    first, second = opened(scripts)
    first.probe("a-1")
    first.refuse()
    second.tell()
    scripts.later(119)

    assert not second.probe("b-1")
    scripts.later(1.001)
    assert second.probe("b-2")


def test_a_straggler_beside_anothers_probe_is_no_probe(scripts: Scripts) -> None:
    """Its refusal doesn't double the pause."""
    first, second = opened(scripts)
    first.probe("a-1")
    second.tell()
    second.refuse()
    first.tell()

    assert first.lane.breakers[OPERATION].probe == "a-1"


def test_an_accepted_probe_closes_all(scripts: Scripts) -> None:
    """Each hears of it when it next asks."""
    first, second = opened(scripts)
    first.probe("a-1")
    first.lane.accepted(OPERATION)
    first.tell()
    second.tell()

    assert not second.lane.breakers


def test_a_resume_at_one_closes_all(scripts: Scripts) -> None:
    """Whoever holds calls back asks now and then, so that it hears."""
    first, second = opened(scripts)
    assert second.lane.is_held_back
    first.lane.resume()
    assert first.lane.has_news
    first.tell()
    second.tell()

    assert not second.lane.is_held_back


def test_a_probe_that_left_lets_another_go(scripts: Scripts) -> None:
    """Its replica names it no more."""
    first, second = opened(scripts)
    first.probe("a-1")
    first.lane.withdraw("a-1")
    first.tell()
    second.tell()

    assert second.probe("b-1")


def test_a_dead_replicas_probe_lets_another_go(scripts: Scripts) -> None:
    """5 s after it was last heard of."""
    first, second = opened(scripts)
    first.probe("a-1")
    scripts.later(4)
    second.tell()
    assert not second.probe("b-1")
    scripts.later(1.001)
    second.tell()

    assert second.probe("b-2")
