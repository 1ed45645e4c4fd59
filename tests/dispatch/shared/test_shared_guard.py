"""The guard in Lua learns what the one in Python does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.dispatch.guard import Guard
from app.domain import Pacing
from tests.dispatch.shared.scripts import SECOND, Scripts
from tests.servers.valkey import Valkey

PEERS = [f"peer-{number}" for number in range(3)]
ANSWERS = st.tuples(st.just("answer"), st.integers(1, 5_000), st.sampled_from(PEERS), st.integers(1, 60), st.integers(1, 400))
LIMITS = st.tuples(st.just("limit"), st.just(0), st.just(""), st.just(0), st.just(1))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(ANSWERS, ANSWERS, ANSWERS, LIMITS), max_size=12))
def test_the_same_is_learned_from_the_same_sends(server: Valkey, events: list[tuple[str, int, str, int, int]]) -> None:
    """Answers, peers, 429s and time, in any order: `n`, `m` and `G` are equal, and so is who is told that somebody else sends."""
    guard = Guard(Pacing.LEARNED)
    with Scripts(server) as scripts:
        for number, (kind, trip, peer, wait, times) in enumerate(events):
            scripts.later(wait)
            now = scripts.now / SECOND
            reply: dict[str, Any]
            if kind == "limit":
                scripts.later(0.001)
                reply = scripts.ask("penalise", released=0, pause=0)
                assert reply.get("stranger", False) is guard.limited()
                scripts.later(0.001)
            else:
                flying = [f"{number}-{time}" for time in range(times)]
                reports = [{"id": one, "ended": True, "back": False, "answered": 0, "trip": trip, "peer": peer} for one in flying]
                scripts.ask("withdraw", flying=flying)
                reply = scripts.ask("withdraw", reports=reports)
                guard.connected(peer)
                for _ in range(times):
                    guard.answered(trip / SECOND, now)
            smallest = guard.smallest_round_trip(scripts.now / SECOND)
            assert reply["answers"] == guard.answers
            assert reply["margin"] == guard.margin * SECOND
            assert reply.get("trip") == (None if smallest is None else pytest.approx(smallest * SECOND))


def test_an_answer_that_is_told_twice_counts_once(scripts: Scripts) -> None:
    """The reply to the first was lost."""
    report = {"id": "1", "ended": True, "back": False, "answered": 0, "trip": 1_000}
    scripts.ask("withdraw", flying=["1"])
    scripts.ask("withdraw", reports=[report])

    assert scripts.ask("withdraw", reports=[report])["answers"] == 1


def test_a_penalty_that_is_told_twice_counts_once(scripts: Scripts) -> None:
    """As do all 429s to sends that were under way together."""
    scripts.ask("penalise", released=1_000, pause=SECOND)
    scripts.later(0.5)

    assert scripts.ask("penalise", released=501_000, pause=SECOND)["margin"] == 0.5 * SECOND


def test_the_oldest_peers_are_forgotten(scripts: Scripts) -> None:
    """64 are known; one that is not any more is new, and what was learned counts no more."""
    for number in range(65):
        scripts.later(0.001)
        scripts.ask("withdraw", reports=[{"id": "", "ended": True, "back": False, "peer": f"peer-{number}"}])
    for peer, answers in (("peer-1", 1), ("peer-0", 0)):
        scripts.later(0.001)
        scripts.ask("withdraw", flying=[peer])
        scripts.ask("withdraw", flying=[peer], reports=[{"id": peer, "ended": False, "back": False, "answered": 0, "trip": 1}])
        reply = scripts.ask("withdraw", reports=[{"id": peer, "ended": True, "back": False, "peer": peer}])

        assert reply["answers"] == answers
