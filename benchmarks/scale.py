"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import Bound

__all__ = ["FULL", "QUICK", "Scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The counts of a run; times in seconds.

    Args:
        binding: whether figures that hang on time have their bounds; a quick run on a busy machine must not fail by them.
        lanes: tokens that the latencies are measured over, each called once a round.
        rounds: rounds of each latency that count; one more goes before them.
        connections: clients that are refused at the same time.
        alternations: how often gateway and bare route take turns at refusing.
        refusing: how long each of these turns lasts.
        paced: calls that wait for one token at once, in each run of `pacing`.
        peers: the same for each peer.
        tokens_http: tokens that all have work waiting, over HTTP.
        tokens_within: the same with the calls made in the gateway's process.
        sends: calls that each of these tokens gets.
        queued: calls of the caller who comes first, in `contention`.
        small: calls of each caller but one, in `fairness`; the one has ten times as many.
        fair_rate: the rate there, in sends a second.
        depth: the calls that wait in the deep queue.
        repetitions: how often a call is enqueued and released at each depth, and a credential is proven.
        jwts: JWTs of each sort that are verified once.
        held: calls that wait while memory is measured.
        merged: callers that each link one order.
        recorded_calls: calls whose records are written in a turn of `recording`.
        commits: records that the ORM commits in a turn there.
        small_history: records of the smaller database in which orders are looked up.
        middle_history: records of the smaller database that is verified.
        large_history: records of the larger database, in which orders are looked up, and which is verified too.
        lookups: orders that are looked up in each.
        batch: orders of a batch.
        job_callers: callers, and tokens, each pair of which has a job.
        job_orders: orders of each of these jobs.
        followers: clients that follow jobs.
        followed_sends: sends of each job that they follow.
        shared_calls: calls that wait for one token, spread over replicas.
        flood: calls of the caller that has many, on each of three replicas.
        restarts: how often Valkey is started again, empty.
        shared_tokens: tokens that all have work waiting, over two replicas.
        noise: repetitions of the loop and of the fsync by which the machine's noise is told.
    """

    binding: bool
    lanes: int
    rounds: int
    connections: int
    alternations: int
    refusing: float
    paced: int
    peers: int
    tokens_http: int
    tokens_within: int
    sends: int
    queued: int
    small: int
    fair_rate: int
    depth: int
    repetitions: int
    jwts: int
    held: int
    merged: int
    recorded_calls: int
    commits: int
    small_history: int
    middle_history: int
    large_history: int
    lookups: int
    batch: int
    job_callers: int
    job_orders: int
    followers: int
    followed_sends: int
    shared_calls: int
    flood: int
    restarts: int
    shared_tokens: int
    noise: int

    def at_least(self, value: float) -> Bound | None:
        """A lower bound of a figure that hangs on time, where it binds."""
        return Bound("≥", value) if self.binding else None

    def at_most(self, value: float) -> Bound | None:
        """An upper bound of a figure that hangs on time, where it binds."""
        return Bound("≤", value) if self.binding else None


FULL = Scale(
    binding=True,
    lanes=60,
    rounds=15,
    connections=64,
    alternations=7,
    refusing=3.0,
    paced=120,
    peers=60,
    tokens_http=300,
    tokens_within=1_000,
    sends=30,
    queued=100,
    small=60,
    fair_rate=60,
    depth=100_000,
    repetitions=40_000,
    jwts=1_000,
    held=5_000,
    merged=500,
    recorded_calls=8_000,
    commits=500,
    small_history=100_000,
    middle_history=1_000_000,
    large_history=10_000_000,
    lookups=2_000,
    batch=5_000,
    job_callers=10,
    job_orders=1_000,
    followers=1_000,
    followed_sends=60,
    shared_calls=200,
    flood=100,
    restarts=10,
    shared_tokens=200,
    noise=200,
)
QUICK = Scale(
    binding=False,
    lanes=5,
    rounds=1,
    connections=16,
    alternations=1,
    refusing=0.2,
    paced=6,
    peers=6,
    tokens_http=10,
    tokens_within=10,
    sends=6,
    queued=8,
    small=6,
    fair_rate=20,
    depth=2_000,
    repetitions=500,
    jwts=50,
    held=100,
    merged=20,
    recorded_calls=500,
    commits=20,
    small_history=20_000,
    middle_history=20_000,
    large_history=200_000,
    lookups=100,
    batch=300,
    job_callers=2,
    job_orders=100,
    followers=50,
    followed_sends=6,
    shared_calls=12,
    flood=5,
    restarts=2,
    shared_tokens=6,
    noise=20,
)
