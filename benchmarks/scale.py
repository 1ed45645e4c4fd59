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
        noise: repetitions of the loop and of the fsync by which the machine's noise is told.
    """

    lanes: int
    rounds: int
    connections: int
    alternations: int
    refusing: float
    waiting: int
    noise: int


FULL = Scale(lanes=60, rounds=20, connections=64, alternations=7, refusing=3.0, waiting=60, noise=200)
QUICK = Scale(lanes=10, rounds=1, connections=16, alternations=2, refusing=0.3, waiting=6, noise=20)
