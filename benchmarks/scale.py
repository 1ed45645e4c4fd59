"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The counts of a run; times in seconds.

    Args:
        lanes: tokens that the latency is measured over, each called once a round.
        rounds: rounds of latency that count; one more goes before them.
        connections: clients that are refused at the same time.
        alternations: how often gateway and bare route take turns at refusing.
        refusing: how long each of these turns lasts.
        waiting: calls that wait for one token at once.
        least_utilisation: the bound of that share of the budget; a quick run on a busy machine must not fail by it.
        noise: repetitions of the loop and of the fsync by which the machine's noise is told.
    """

    lanes: int
    rounds: int
    connections: int
    alternations: int
    refusing: float
    waiting: int
    least_utilisation: float
    noise: int


FULL = Scale(lanes=60, rounds=20, connections=64, alternations=7, refusing=3.0, waiting=60, least_utilisation=0.97, noise=200)
QUICK = Scale(lanes=5, rounds=1, connections=16, alternations=1, refusing=0.2, waiting=4, least_utilisation=0.7, noise=20)
