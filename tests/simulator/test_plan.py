"""Which fault hits which request."""

import pytest

from app.simulator.faults import Hang, Latency, ResetAfter, Status
from app.simulator.plan import LARGEST_PLAN, Plan

FAILING = Status(kind="status", status=503)


def test_faults_hit_in_the_order_given_each_its_count_of_requests() -> None:
    """A fault with a count leaves the plan when it is used up, and the next takes its turn."""
    plan = Plan()
    plan.add([FAILING.model_copy(update={"count": 2}), Hang(kind="hang", count=1)])

    hits = [plan.take("main", b"") for _ in range(4)]

    assert [hit and hit.kind for hit in hits] == ["status", "status", "hang", None]


def test_a_fault_without_count_stays_until_cleared() -> None:
    """A standing fault hits every request, and hides those after it."""
    plan = Plan()
    plan.add([FAILING, Hang(kind="hang")])

    assert [plan.take("main", b"") for _ in range(3)] == [FAILING] * 3
    plan.clear()
    assert plan.take("main", b"") is None


def test_a_fault_of_one_token_spares_the_others() -> None:
    """A fault with a token's name hits no other token, nor a request without a known one."""
    plan = Plan()
    slow = Latency(kind="latency", token="main")
    plan.add([FAILING.model_copy(update={"token": "main"}), slow])

    assert plan.take("shop", b"") is None
    assert plan.take_latency(None) is None
    assert plan.take_latency("main") == slow


def test_a_latency_goes_with_another_fault() -> None:
    """A request meets the first latency and the first other fault, whichever stands first."""
    plan = Plan()
    lost = ResetAfter(kind="reset-after", count=1)
    plan.add([lost, Latency(kind="latency", count=3)])

    assert plan.take_latency("main") is not None
    assert plan.take("main", b"") == lost
    assert [fault.count for fault in plan.pending()] == [2]


def test_the_plan_is_bounded() -> None:
    """A plan that would grow too long is refused whole."""
    plan = Plan()
    plan.add([FAILING])

    with pytest.raises(ValueError, match="at most 1000 faults"):
        plan.add([FAILING] * LARGEST_PLAN)

    assert plan.pending() == [FAILING]
