from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamError
from app.jobs import Part, PartEnd, Pause, Pauses
from app.jobs.conclusion import Again, Verdict, concluded
from app.jobs.pauses import LONGEST_PAUSE_SECONDS
from app.jobs.run import MOST_FAULTS, MOST_SUSPICIONS
from tests.jobs.rows import run_of


def pages(waiting: set[int], seen: int, size: int = 2) -> list[Part]:
    """The next parts that wait behind a place, as the rows give them."""
    return [Part(job_id="job", seq=seq, ids=(seq,)) for seq in sorted(one for one in waiting if one > seen)[:size]]


@given(st.lists(st.booleans(), max_size=40))
def test_every_part_is_handed_out_until_it_has_ended_and_none_twice_at_a_time(fates: list[bool]) -> None:
    """However many go back to wait: a part that waits is found again, and one that is under way isn't."""
    run, waiting, ended = run_of(), set(range(1, 6)), 0
    fate = iter(fates)
    while run.more or run.page:
        while run.more and not run.page:
            run.turn_page(pages(waiting, run.seen))
        if run.page:
            part = run.page.popleft()
            assert part.seq in waiting
            waiting.remove(part.seq)
            if next(fate, False):
                waiting.add(part.seq)
                run.give_back()
            else:
                ended += 1

    assert (ended, waiting) == (5, set())


def test_a_part_that_waits_again_comes_after_the_others() -> None:
    """Were it first, one that fails again and again would hold up all."""
    run, waiting, order = run_of(), {1, 2, 3}, []
    for _ in range(4):
        while not run.page:
            run.turn_page(pages(waiting, run.seen, size=1))
        order.append(run.page.popleft().seq)
        if order == [1]:
            run.give_back()
        else:
            waiting.discard(order[-1])

    assert order == [1, 2, 3, 1]


def test_a_part_is_given_up_after_some_faults_of_its_own() -> None:
    """Other parts' faults don't count against it."""
    run = run_of()
    one, other = pages({1, 2}, 0)
    blamed = [run.blame(one, well=True, suspect=False) for _ in range(MOST_FAULTS)]

    assert blamed == [False, False, True]
    assert not run.blame(other, well=True, suspect=False)


@pytest.mark.parametrize(("status", "given_up_after"), [(500, MOST_SUSPICIONS), (503, None)])
def test_a_part_that_may_be_at_fault_is_given_up_though_nothing_else_is_answered(status: int, given_up_after: int | None) -> None:
    """A defect that its IDs bring about is met every time; an upstream that says it is out of order is waited for."""
    run, pauses = run_of(), Pauses()
    failure = concluded(pages({1}, 0)[0], UpstreamError("no", uncertain=True, upstream_status=status), uncertain=False)
    ends = [isinstance(pauses.heed(run, failure, 100.0 * number), PartEnd) for number in range(2 * MOST_SUSPICIONS)]

    assert (ends.index(True) + 1 if True in ends else None) == given_up_after


def test_a_part_that_fails_while_others_are_answered_is_given_up_sooner() -> None:
    """Then it is the part's own fault, most likely; what is answered ends the pause."""
    run, pauses = run_of(), Pauses()
    bad, good = pages({1, 2}, 0)
    failure = concluded(bad, UpstreamError("a defect", uncertain=True, upstream_status=500), uncertain=False)
    heard: list[Verdict] = []
    for number in range(MOST_FAULTS):
        heard.append(pauses.heed(run, failure, float(number)))
        pauses.heed(run, concluded(good, (2,), uncertain=False), float(number))

    assert [isinstance(one, Again) for one in heard] == [True, True, False]
    assert pauses.room(run.lane, float(MOST_FAULTS), 8) == 8


def test_a_pause_doubles_with_each_failure_in_a_row_up_to_a_minute() -> None:
    """What was under way together counts once; who asks for a longer pause gets it, but no more than the longest."""
    pause, now, lengths = Pause(), 0.0, []
    for _ in range(8):
        pause.fail(now, 1.0)
        pause.fail(now, 1.0)
        lengths.append(pause.until - now)
        now = pause.until
    pause.fail(now, 3_600.0)

    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause.until - now == LONGEST_PAUSE_SECONDS
