"""The lane over simulated networks: no window broken at the upstream, and how much of the budget is used.

The short form of `python -m benchmarks.networks`, with fewer runs.
"""

from __future__ import annotations

import pytest

from app.domain import Pacing
from tests.dispatch.networks import ABSURD, NETWORKS, Network, arrivals, measure, violations

MEAN = dict(zip([network.name for network in NETWORKS], [0.999, 0.941, 0.949, 0.869, 0.8], strict=True))
LEAST = dict(zip([network.name for network in NETWORKS], [0.999, 0.935, 0.945, 0.869, 0.799], strict=True))


def named(network: Network) -> str:
    """A network's name, for the test's own."""
    return network.name


@pytest.mark.parametrize("network", NETWORKS, ids=named)
def test_no_window_breaks_and_little_is_wasted(network: Network) -> None:
    """Over 120 sends from a cold start, in each of 20 runs."""
    measured = measure(network, runs=20)

    assert measured.violations == 0
    assert measured.mean >= MEAN[network.name]
    assert measured.least >= LEAST[network.name]


@pytest.mark.parametrize("network", [*NETWORKS, ABSURD], ids=named)
def test_under_proven_pacing_no_network_breaks_a_window(network: Network) -> None:
    """However its delays vary; that costs a round trip each second."""
    measured = measure(network, runs=10, pacing=Pacing.PROVEN)

    assert measured.violations == 0


def test_a_run_is_the_same_each_time() -> None:
    """Its seed decides; another seed's differs."""
    assert arrivals(NETWORKS[1], sends=10, seed=7) == arrivals(NETWORKS[1], sends=10, seed=7)
    assert arrivals(NETWORKS[1], sends=10, seed=7) != arrivals(NETWORKS[1], sends=10, seed=8)


@pytest.mark.parametrize(
    ("times", "count"), [([0, 0, 1], 0), ([0, 0, 0.999999], 1), ([0, 0.5, 0.9, 0.95], 2), ([0, 0, 1 - 1e-10], 0), ([], 0)]
)
def test_a_violation_is_a_third_arrival_within_a_second(times: list[float], count: int) -> None:
    """One exactly a second later is outside; a nanosecond is a rounding error."""
    assert violations(times) == count
