from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.jobs import Part, Pause
from app.jobs.run import LONGEST_PAUSE_SECONDS, MOST_FAULTS
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
    blamed = [run.blame(one) for _ in range(MOST_FAULTS)]

    assert blamed == [False, False, True]
    assert not run.blame(other)


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
