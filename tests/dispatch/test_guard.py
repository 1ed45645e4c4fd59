"""The guard, by example: what is learned of the network, how soon, and what makes it be forgotten."""

from __future__ import annotations

import pytest

from app.dispatch.guard import Guard
from app.domain import Pacing


def learned(answers: int, *, round_trip: float = 0.1, at: float = 0.0) -> Guard:
    """A guard that has seen so many answers, all alike, at one time."""
    guard = Guard()
    for _ in range(answers):
        guard.answered(round_trip, at)
    return guard


@pytest.mark.parametrize(
    ("answers", "share"),
    [(0, 0.0), (1, 0.0), (10, 0.0), (11, 0.9 * (1 - (10 / 11) ** 0.5)), (40, 0.45), (1_000, 0.81)],
)
def test_the_share_grows_with_the_answers(answers: int, share: float) -> None:
    """The share is 0.9 x max(0, 1 - sqrt(10/n)) for n answers."""
    guard = learned(answers)

    assert guard.share == pytest.approx(share, abs=1e-12)
    assert guard.advance(0) == pytest.approx(share * 0.1, abs=1e-12)


def test_the_first_answer_that_counts_is_the_eleventh() -> None:
    """With ten answers nothing is relied upon, with eleven a little."""
    assert learned(10).share == 0
    assert 0.04 < learned(11).share < 0.05


def test_a_guard_without_answers_saves_nothing() -> None:
    """Where no round trip is known, none can be taken off."""
    guard = Guard(answers=1_000)

    assert guard.smallest_round_trip(0) is None
    assert guard.median_round_trip(0) == 0
    assert guard.advance(0) == 0


def test_proven_pacing_relies_on_nothing_learned() -> None:
    """Under proven pacing the share stays 0, however many answers came."""
    guard = learned(1_000)
    guard.pacing = Pacing.PROVEN

    assert guard.share == 0
    assert guard.advance(0) == 0


def test_the_smallest_round_trip_is_kept() -> None:
    """Within ten seconds, and over many, the smallest of all counts."""
    guard = Guard()
    for at, round_trip in [(0, 0.3), (5, 0.2), (9, 0.4), (15, 0.5), (25, 0.25)]:
        guard.answered(round_trip, at)

    assert guard.smallest_round_trip(25) == 0.2


def test_the_smallest_round_trip_is_kept_for_five_minutes_and_forgotten_ten_seconds_later_at_most() -> None:
    """Round trips are kept in buckets of ten seconds, the whole of which is forgotten at once."""
    guard = Guard()
    guard.answered(0.1, 9.9)
    guard.answered(0.2, 200)

    assert guard.smallest_round_trip(309.9) == 0.1
    assert guard.smallest_round_trip(310) == 0.2
    assert guard.smallest_round_trip(509.9) == 0.2
    assert guard.smallest_round_trip(510) is None


def test_five_busy_minutes_are_remembered_whole() -> None:
    """A smallest round trip isn't pushed out by the answers after it before its time."""
    guard = Guard()
    guard.answered(0.1, 0)
    for second in range(1, 305):
        guard.answered(0.2, second)

    assert guard.smallest_round_trip(305) == 0.1


def test_the_median_is_that_of_the_last_minute() -> None:
    """A minute later, to the second, a round trip doesn't count any more."""
    guard = Guard()
    for at, round_trip in [(0, 9.0), (10, 0.1), (20, 0.3), (30, 0.2)]:
        guard.answered(round_trip, at)

    assert guard.median_round_trip(60) == pytest.approx(0.25)
    assert guard.median_round_trip(60.1) == 0.2
    assert guard.median_round_trip(90) == 0.2
    assert guard.median_round_trip(90.1) == 0


def test_the_median_is_that_of_the_last_31_answers() -> None:
    """A busy lane's median follows its last answers."""
    guard = learned(40, round_trip=5.0)
    for _ in range(16):
        guard.answered(0.1, 0)

    assert guard.median_round_trip(0) == 0.1
    assert learned(15).median_round_trip(0) == 0.1


def test_a_new_peer_begins_the_learning_anew() -> None:
    """Another address may be nearer or further away; one that was seen before isn't new."""
    guard = Guard()
    guard.connected("192.0.2.1")
    for _ in range(40):
        guard.answered(0.1, 0)
    guard.connected("192.0.2.1")
    guard.connected(None)
    before = guard.answers
    guard.connected("192.0.2.2")

    assert before == 40
    assert guard.answers == 0
    assert guard.share == 0


def test_sixty_four_peers_are_remembered() -> None:
    """The 65th pushes the first out, so that memory is bounded; the first is new again then."""
    guard = Guard()
    for number in range(64):
        guard.connected(f"peer-{number}")
    guard.answers = 40
    guard.connected("peer-0")
    at_64 = guard.answers
    guard.connected("peer-64")
    guard.answers = 40
    guard.connected("peer-1")
    second = guard.answers
    guard.connected("peer-0")

    assert (at_64, second, guard.answers) == (40, 40, 0)


def test_a_429_ends_all_trust_and_doubles_the_margin_to_a_second() -> None:
    """Each 429 sets the answers to none; the margin goes from 250 ms to 500, to 1,000 and no further."""
    guard = learned(40)
    margins = []
    for _ in range(4):
        guard.limited()
        margins.append(guard.margin)

    assert guard.answers == 0
    assert margins == [0.5, 1.0, 1.0, 1.0]


def test_the_margin_halves_after_exactly_500_good_sends() -> None:
    """Five hundred answers in a row each time, down to 250 ms and no further."""
    guard = Guard(margin=1.0)
    margins = []
    for _ in range(3):
        for _ in range(499):
            guard.answered(0.1, 0)
        margins.append(guard.margin)
        guard.answered(0.1, 0)
        margins.append(guard.margin)

    assert margins == [1.0, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_429_begins_the_count_of_good_sends_anew() -> None:
    """Only what came after it counts."""
    guard = Guard()
    for _ in range(499):
        guard.answered(0.1, 0)
    guard.limited()
    for _ in range(499):
        guard.answered(0.1, 0)
    before = guard.margin
    guard.answered(0.1, 0)

    assert (before, guard.margin) == (0.5, 0.25)


def test_an_alert_only_when_429s_go_on_though_nothing_learned_is_relied_upon() -> None:
    """The first at a share above 0 may be our own fault, the first at 0 chance; the next one isn't."""
    guard = learned(40)

    assert [guard.limited() for _ in range(4)] == [False, False, True, True]


def test_429s_that_come_while_the_share_is_above_zero_raise_no_alert() -> None:
    """They show that too much was relied upon, not that somebody else uses the token."""
    guard = Guard()
    raised = []
    for _ in range(5):
        for _ in range(11):
            guard.answered(0.1, 0)
        raised.append(guard.limited())

    assert not any(raised)


def test_what_was_learned_between_two_429s_parts_them() -> None:
    """After a stretch in which the share was above 0 without a 429, an earlier one at 0 doesn't count towards the alert."""
    guard = Guard()
    first = guard.limited()
    for _ in range(11):
        guard.answered(0.1, 0)
    guard.connected("192.0.2.2")
    second = guard.limited()

    assert (first, second) == (False, False)
    assert guard.limited()


def test_under_proven_pacing_every_second_429_raises_the_alert() -> None:
    """No send of ours can have brought it about, whatever was answered between."""
    guard = Guard(Pacing.PROVEN)
    first = guard.limited()
    for _ in range(20):
        guard.answered(0.1, 0)

    assert not first
    assert guard.limited()
