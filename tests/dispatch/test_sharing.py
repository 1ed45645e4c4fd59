"""Sharing a send, by example: shares of an answer, strangers in it, and the halving of what was refused."""

from __future__ import annotations

import pytest

from app.dispatch.sharing import halves, is_divisible, share_of, strangers, union
from app.domain import Linked, Outcome, RateLimited, Refused, TimedOut, TokenRejected
from tests.calls import make_call

A = make_call(1, 2, caller="a")
B = make_call(2, 3, caller="b")
C = make_call(4, caller="c")


def test_the_union_names_each_id_once_in_order() -> None:
    """An ID that several ask for is sent once."""
    assert union([B, A, C]) == (2, 3, 1, 4)
    assert union([]) == ()


def test_each_call_gets_its_own_part_of_a_merged_answer() -> None:
    """In the answer's order; an ID that several asked for stands in each share, one that isn't in the answer in none."""
    answer = Linked((3, 2, 1), status=200)

    assert share_of(answer, A, [A, B, C]) == Linked((2, 1))
    assert share_of(answer, B, [A, B, C]) == Linked((3, 2))
    assert share_of(answer, C, [A, B, C]) == Linked(())


def test_the_only_request_of_a_send_keeps_the_whole_answer() -> None:
    """Also what it didn't ask for, and also where equal calls share it: the order of their IDs makes no difference."""
    twin = make_call(2, 1, caller="b")
    answer = Linked((1, 77))

    assert share_of(answer, A, [A]) is answer
    assert share_of(answer, twin, [A, twin]) is answer


@pytest.mark.parametrize("outcome", [Refused(400, "no"), TimedOut("late"), RateLimited(1.0)])
def test_a_failure_is_every_calls_failure(outcome: Outcome) -> None:
    """There is nothing to divide."""
    assert share_of(outcome, A, [A, B]) is outcome


def test_strangers_are_ids_that_nobody_asked_for() -> None:
    """A failure has none."""
    assert strangers(Linked((1, 2, 3, 9)), [A, B]) == {9}
    assert strangers(Linked((1, 3)), [A, B]) == set()
    assert strangers(Refused(400, ""), [A]) == set()


@pytest.mark.parametrize(
    ("status", "divisible"),
    [(400, True), (404, True), (413, True), (414, True), (422, True), (401, False), (402, False), (405, False), (409, False), (500, False)],
)
def test_a_merged_send_is_taken_apart_where_one_calls_fault_may_be_the_others_misfortune(status: int, *, divisible: bool) -> None:
    """By the statuses that speak of the request, and no others."""
    assert is_divisible(Refused(status, ""), [A, B]) is divisible


@pytest.mark.parametrize("outcome", [TokenRejected(401, ""), TokenRejected(403, ""), RateLimited(None), TimedOut(""), Linked((1,))])
def test_nothing_else_takes_a_send_apart(outcome: Outcome) -> None:
    """Neither the token's fault nor the pace's concerns any one call."""
    assert not is_divisible(outcome, [A, B])


def test_a_send_with_one_request_is_not_taken_apart() -> None:
    """Equal calls share their refusal."""
    assert not is_divisible(Refused(400, ""), [A])
    assert not is_divisible(Refused(400, ""), [A, make_call(2, 1, caller="z")])


def test_halves_keep_the_order_and_equal_calls_together() -> None:
    """The first half has the odd one; equal calls count once."""
    twin = make_call(2, 1, caller="z")

    assert halves([A, B, C]) == ([A, B], [C])
    assert halves([A, B]) == ([A], [B])
    assert halves([A, B, C, twin]) == ([A, B, twin], [C])
    assert halves([twin, C, A]) == ([twin, A], [C])
