"""Whether a server's clock goes steadily, in simulated time."""

from __future__ import annotations

import pytest

from app.dispatch.shared.clock import ServerClock


def test_a_steady_clock_never_jumps() -> None:
    """However long its answers take."""
    clock = ServerClock()

    assert [clock.jumped(1_000 + at + out, at, at + out + back) for at, out, back in ((0, 0.1, 1), (2, 1, 0), (4, 0, 0))] == [None] * 3


def test_a_jump_is_told_with_its_size_and_direction() -> None:
    """By at least so much, as two answers allow."""
    clock = ServerClock()
    clock.jumped(1_000, 0, 0)

    assert clock.jumped(1_006, 1, 1) == pytest.approx(5, abs=0.01)
    assert clock.jumped(1_002, 2, 2) == pytest.approx(-5, abs=0.01)


def test_a_slow_answer_doesnt_hide_a_jump_from_the_next() -> None:
    """What a quick answer said before a slow one is kept."""
    clock = ServerClock()
    clock.jumped(1_000, 0, 0)
    clock.jumped(1_002, 1, 3)

    assert clock.jumped(1_005.5, 4, 4) is not None


def test_clocks_may_drift() -> None:
    """A server's clock that is set right bit by bit is no jump, over whatever time."""
    clock = ServerClock()

    assert [clock.jumped(1_000 + at * 1.0005, at, at) for at in range(0, 10_000, 100)] == [None] * 100


def test_a_smaller_step_is_not_noticed_but_remembered() -> None:
    """Below 0.1 s: the stated limit. From then on the new time is what counts."""
    clock = ServerClock()
    clock.jumped(1_000, 0, 0)

    assert clock.jumped(1_001.09, 1, 1) is None
    assert clock.jumped(1_002.09, 2, 2) is None
    assert clock.jumped(1_003.18, 3, 3) is None


@pytest.mark.parametrize("rate", [83_333e-6, -83_333e-6])
def test_a_clock_that_is_set_right_fast_jumps(rate: float) -> None:
    """By less than 0.1 s from one beat to the next, but by more within 2 s: as chrony does it unless told otherwise."""
    clock = ServerClock()
    beats = [0.25 * beat for beat in range(40)]

    jumps = [clock.jumped(1_000 + at * (1 + rate), at, at) for at in beats]

    found = [at for at, jump in zip(beats, jumps, strict=True) if jump is not None]
    assert found[0] <= 2
    assert len(found) > 4
    assert all(jump * rate > 0 for jump in jumps if jump is not None)


def test_a_clock_that_is_set_right_slowly_goes_on_steadily() -> None:
    """At no more than 500 ppm, with an answer each 250 ms that takes up to 0.1 s."""
    clock = ServerClock()

    jumps = [clock.jumped(1_000 + at * 1.0005, at - back, at + (0.1 - back)) for at, back in ((n / 4, n % 5 / 50) for n in range(4_000))]

    assert jumps == [None] * 4_000


def test_another_servers_clock_is_another() -> None:
    """Forgotten, nothing is compared with what was before."""
    clock = ServerClock()
    clock.jumped(1_000, 0, 0)
    clock.forget()

    assert clock.jumped(5_000, 1, 1) is None
