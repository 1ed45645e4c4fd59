from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.client import Answer
from benchmarks.contention import turns_lost
from benchmarks.crowd import Told, wrong
from benchmarks.fairness import jain, shares
from benchmarks.figures import Bound, Figure, Report, percentile
from benchmarks.results import merged
from benchmarks.scale import FULL, QUICK
from benchmarks.summary import summary
from benchmarks.tokens import used_together
from benchmarks.windows import breaches, most_in_any_window, utilisation

PROJECT = Path(__file__).parent.parent


def told(body: bytes, status: int = 200) -> Told:
    """An answer as a client has it."""
    return Told(Answer(status, b"", body), 0.0, 0.1)


def pairs(count: int, first: float = 0.0) -> list[float]:
    """Arrivals of two at a time, in seconds."""
    return [first + place // 2 for place in range(count)]


@pytest.mark.parametrize(
    ("times", "broken", "most"),
    [
        ([], 0, 0),
        ([0.0, 0.0, 1.0, 1.0], 0, 2),
        ([0.0, 0.5, 0.9999], 1, 3),
        ([0.0, 0.0, 0.0, 0.0], 2, 4),
        ([0.0, 0.9, 1.0, 1.8, 1.9], 2, 3),
    ],
)
def test_an_arrival_breaks_a_window_that_held_two_already(times: list[float], broken: int, most: int) -> None:
    """An arrival exactly a second after the last but one is outside its window."""
    assert breaches(times) == broken
    assert most_in_any_window(times) == most


def test_a_tolerance_shortens_the_window() -> None:
    """Ten milliseconds forgive an arrival that is nine too early, and not one that is eleven too early."""
    assert breaches([0.0, 0.1, 0.991], tolerance=0.01) == 0
    assert breaches([0.0, 0.1, 0.989], tolerance=0.01) == 1


def test_utilisation_is_of_the_sends_after_the_first_two() -> None:
    """Two sends in each second use all of the budget, one uses half of it."""
    assert utilisation(pairs(120)) == pytest.approx(1)
    assert utilisation([float(second) for second in range(12)]) == pytest.approx(10 / 2 / 11)


def test_two_arrivals_tell_no_utilisation() -> None:
    """The budget lets two through at once, so two say nothing."""
    with pytest.raises(ValueError, match="2 arrivals"):
        utilisation([0.0, 1.0])


def test_tokens_are_compared_while_all_have_work() -> None:
    """What a token did before the last one began, or after the first one ended, doesn't count."""
    busy, late = pairs(20), pairs(12, first=4.0)

    assert used_together([busy, late]) == pytest.approx([10 / 2 / 5, 10 / 2 / 5])


def test_a_token_without_arrivals_fails_the_comparison() -> None:
    """Nothing sent is nothing used, and no reason to leave the token out."""
    assert used_together([pairs(8), []]) == [0.0, 0.0]


@pytest.mark.parametrize("turn", [5, 6])
def test_a_call_that_goes_between_costs_the_others_one_turn(turn: int) -> None:
    """A lane with a hundred and one sends, of which another caller had one."""
    slots = pairs(101)

    assert turns_lost([*slots[:turn], *slots[turn + 1 :]], pairs(102)) == 1


def test_a_call_at_the_end_costs_the_others_nothing() -> None:
    """First in, first out: the other caller pays for all."""
    assert turns_lost(pairs(100), pairs(102)) == 0


def test_a_lane_that_idles_for_the_others_call_loses_more_turns() -> None:
    """Two seconds without a send are four turns."""
    assert turns_lost([*pairs(10), *pairs(90, first=7.0)], pairs(102)) == 4


def test_shares_are_counted_while_all_compete() -> None:
    """From when all wait, until the first has got all of its answers."""
    answered = {"many": [0.5, 1.0, 2.0, 3.0, 4.0], "few": [1.5, 2.5]}

    assert shares(answered, began=0.9) == {"many": 2, "few": 1}


def test_jains_index_is_one_where_all_have_the_same() -> None:
    """And one in n where one has all."""
    assert jain([5, 5, 5, 5]) == pytest.approx(1)
    assert jain([5, 0, 0, 0]) == pytest.approx(1 / 4)


def test_nobody_served_is_no_fairness() -> None:
    """All equal at nothing must not look fair."""
    with pytest.raises(ValueError, match="nobody"):
        jain([0, 0])


def test_an_answer_is_right_when_it_is_exactly_the_calls_order() -> None:
    """An error, an empty list and another's order besides are all wrong."""
    answers = [told(b"[7]"), told(b"[]"), told(b"[7,8]"), told(b"[7]", 503)]

    assert wrong(answers, [7, 7, 7, 7]) == 3


def test_a_figure_is_judged_by_its_bound() -> None:
    """On the bound is met; without one there is no verdict."""
    assert Figure("ratio", 1.5, "", Bound("≤", 1.5)).verdict == "met"
    assert Figure("share", 0.97, "", Bound("≥", 0.98)).verdict == "MISSED"
    assert not Figure("share", 0.97).verdict


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """By the nearest rank."""
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.99) == 2.0


def test_the_summary_shows_bounds_and_what_stands_beside_them() -> None:
    """Figures that are only reported aren't in it."""
    figures = [Figure("added", 2.0, "ms", Bound("≤", 3), "nginx: 0.2 ms"), Figure("only told", 1.0)]

    text = summary({"latency": Report("latency", figures)})

    assert "nginx: 0.2 ms" in text
    assert "met" in text
    assert "only told" not in text


def test_only_a_full_run_is_bound_by_the_clock() -> None:
    """A quick run on a busy machine must not fail by its figures, and a full one must be able to."""
    assert FULL.at_least(0.99) == Bound("≥", 0.99)
    assert QUICK.at_least(0.99) is None


def test_a_long_benchmark_is_written_beside_the_others_with_its_own_conditions() -> None:
    """What another run found stays, and so do that run's conditions."""
    earlier = merged({}, {"quick": False, "machine": "first"}, {"latency": Report("latency", [])})

    after = merged(earlier, {"machine": "second"}, {"history": Report("history", [Figure("rate", 2.0)])})

    assert after["machine"] == "first"
    assert list(after["benchmarks"]) == ["latency", "history"]
    assert after["benchmarks"]["history"]["conditions"] == {"machine": "second"}


def test_a_whole_run_keeps_what_a_long_benchmark_found() -> None:
    """It replaces the conditions and its own figures only."""
    earlier = merged({"machine": "first", "benchmarks": {}}, {"machine": "second"}, {"history": Report("history", [])})

    after = merged(earlier, {"machine": "third"}, {"latency": Report("latency", [])})

    assert after["machine"] == "third"
    assert after["benchmarks"]["history"] == earlier["benchmarks"]["history"]


def test_a_quick_run_writes_its_figures(tmp_path: Path) -> None:
    """The command runs what is named, and writes where it is told to."""
    output = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "queue", "--quick", "--output", str(output)]

    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "every bound met" in done.stdout
    found = json.loads(output.read_text(encoding="utf-8"))["benchmarks"]["queue"]["figures"]
    assert "ratio" in [figure["name"] for figure in found]
