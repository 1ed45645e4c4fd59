"""The lane over simulated networks, in many runs: what it breaks and what it wastes. `python -m benchmarks.networks [runs]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.dispatch.networks import ABSURD, NETWORKS, Measured, measure

__all__ = ["RUNS", "measure_all"]

RUNS = 1_000


def measure_all(runs: int = RUNS) -> Iterator[Measured]:
    """Simulate so many runs of 120 sends, from a cold start, over each network; the absurd one last."""
    for network in (*NETWORKS, ABSURD):
        yield measure(network, runs=runs)


def main() -> None:
    """Print a line for each network."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    print(f"{'network':36} {'runs':>6} {'violations':>10} {'mean':>7} {'least':>7}")
    for measured in measure_all(runs):
        print(f"{measured.network:36} {measured.runs:6} {measured.violations:10} {measured.mean:7.4f} {measured.least:7.4f}", flush=True)


if __name__ == "__main__":
    main()
