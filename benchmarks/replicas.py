"""Several replicas with one PostgreSQL and one Valkey: whether each token's limit is kept, and used, whatever happens to them.

Replicas, simulator and servers are processes; all share the machine's cores with this one, which makes the calls.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain

from benchmarks.client import Connection, connected
from benchmarks.figures import Bound, Figure, Report, percentile
from benchmarks.latency import ROUND_SECONDS, timed
from benchmarks.scale import Scale
from benchmarks.stage import CALLER, LONGEST_WAIT, Cast
from benchmarks.tokens import AT_ONCE, BEGIN_A_SECOND, TOLERANCE, used_together
from benchmarks.upstream import FIRST_ORDER
from benchmarks.windows import RATE, breaches, utilisation
from tests.replicas.fleet import DESERTED_SECONDS, Called, Fleet, Replica, assembled
from tests.servers.postgres import Postgres, postgres
from tests.servers.valkey import valkey

__all__ = ["measure"]

NONE = Bound("≤", 0)
REPLICAS = 4
SHARED = "shared"
FLOOD = "flood"
KILL_EVERY_SECONDS = 5.0
RESTART_EVERY_SECONDS = 4.0
AGAIN_SECONDS = 0.2
ORDERS = 20_000
ROUNDS = 5
LAST_REPORT_SECONDS = 3.0


async def measure(scale: Scale) -> Report:
    """Measure all, one after the other."""
    with postgres() as server:
        rows = [
            await _spread(scale, server),
            await _with_deaths(scale, server),
            await _single_beside_flood(scale, server),
            await _with_restarts(scale, server),
            await _many_tokens(scale, server),
            await _idle(scale, server),
        ]
    remarks = [
        f"{REPLICAS} replicas but where another number stands; PostgreSQL with fsync, Valkey without persistence; nothing was pinned"
    ]
    return Report("replicas: several processes that share each token's turns", [*chain(*rows)], remarks)


async def _spread(scale: Scale, server: Postgres) -> list[Figure]:
    """Waiting calls spread over the replicas."""
    title = f"{scale.shared_calls} calls over {REPLICAS} replicas"
    async with _fleet(server, REPLICAS) as fleet:
        called = await fleet.ask_all(scale.shared_calls, wait=LONGEST_WAIT)
        arrivals = await fleet.arrivals()
    return [*_kept(title, arrivals), _used(title, arrivals, scale.at_least(0.97)), _wrong(title, called)]


async def _with_deaths(scale: Scale, server: Postgres) -> list[Figure]:
    """The same while replicas die; who loses its connection calls another."""
    title = f"{scale.shared_calls} calls, a replica killed every {KILL_EVERY_SECONDS:g} s"
    async with _fleet(server, REPLICAS) as fleet:
        living, dead = deque(fleet.replicas), set[Replica]()
        killing = asyncio.create_task(_kill_in_turn(fleet, living, dead))
        attempts = await asyncio.gather(*(_until_told(fleet, living) for _ in range(scale.shared_calls)))
        killing.cancel()
        await asyncio.wait({killing})
        arrivals, left = await fleet.arrivals(), await _places_left(fleet)
    called = [*chain(*attempts)]
    lost = [one for one in called if not one.right and not (one.told is None and one.replica in dead)]
    return [
        *_kept(title, arrivals),
        _used(title, arrivals, scale.at_least(0.93)),
        Figure(f"{title}: calls neither answered nor gone with their replica", len(lost), "", NONE),
        Figure(f"{title}: places left {DESERTED_SECONDS:g} s later", left, "", NONE),
        Figure(f"{title}: replicas killed", len(dead)),
        Figure(f"{title}: calls gone with them", sum(one.told is None for one in called)),
    ]


async def _kill_in_turn(fleet: Fleet, living: deque[Replica], dead: set[Replica]) -> None:
    """Kill the one that has lived longest, and start another; again and again. The last one that is ready is left alone."""
    async with asyncio.TaskGroup() as starting:
        while True:
            await asyncio.sleep(KILL_EVERY_SECONDS)
            if len(living) > 1:
                oldest = living.popleft()
                dead.add(oldest)
                oldest.kill()
                starting.create_task(_join(fleet, fleet.start(), living))


async def _join(fleet: Fleet, another: Replica, living: deque[Replica]) -> None:
    """Let a replica have calls once it is ready."""
    await fleet.ready(another)
    living.append(another)


async def _until_told(fleet: Fleet, living: deque[Replica]) -> list[Called]:
    """Call one replica after the other, until one answers; gives all attempts."""
    attempts: list[Called] = []
    while not attempts or attempts[-1].told is None:
        living.rotate()
        attempts.append(await fleet.ask(living[0], wait=LONGEST_WAIT))
    return attempts


async def _places_left(fleet: Fleet) -> int:
    try:
        await fleet.deserted()
    except TimeoutError:
        return fleet.places()
    return 0


async def _single_beside_flood(scale: Scale, server: Postgres) -> list[Figure]:
    """A caller with many calls on all replicas but one, and another with one call on that one."""
    title = f"one call beside {REPLICAS - 1} times {scale.flood} of another caller"
    async with _fleet(server, REPLICAS) as fleet:
        *others, last = fleet.replicas
        await fleet.ask(last)
        number = len(others) * scale.flood
        flood = asyncio.create_task(fleet.ask_all(number, others, caller=FLOOD, wait=LONGEST_WAIT))
        await fleet.crowded(number - 2 * RATE)
        single = await fleet.ask(last)
        flood.cancel()
        await asyncio.wait({flood})
        arrivals = await fleet.arrivals()
    took = single.told.took if single.told else float("inf")
    return [*_kept(title, arrivals), Figure(f"{title}: until its answer", took, "s", scale.at_most(1.1)), _wrong(title, [single])]


async def _with_restarts(scale: Scale, server: Postgres) -> list[Figure]:
    """Valkey killed and started again, empty, under load; who is refused calls again."""
    title = f"Valkey started again empty, {scale.restarts} times"
    async with _fleet(server, REPLICAS) as fleet:
        ended = asyncio.Event()
        load = asyncio.gather(*(_call_on(fleet, replica, ended) for replica in fleet.replicas * 5))
        for _ in range(scale.restarts):
            await asyncio.sleep(RESTART_EVERY_SECONDS)
            with fleet.valkey.away():
                pass
        ended.set()
        called, arrivals = [*chain(*await load)], await fleet.arrivals()
    told = Counter(one.problem or "answered" for one in called)
    return [
        *_kept(title, arrivals),
        Figure(f"{title}: answers that were wrong", sum(told.values()) - told["answered"] - told["pacing-unavailable"], "", NONE),
        Figure(f"{title}: calls answered", told["answered"]),
        Figure(f"{title}: calls refused meanwhile", told["pacing-unavailable"]),
    ]


async def _call_on(fleet: Fleet, replica: Replica, ended: asyncio.Event) -> list[Called]:
    called = []
    while not ended.is_set():
        called.append(await fleet.ask(replica))
        if not called[-1].right:
            await asyncio.sleep(AGAIN_SECONDS)
    return called


async def _many_tokens(scale: Scale, server: Postgres) -> list[Figure]:
    """Many tokens that all have work waiting at each of two replicas."""
    title = f"{scale.shared_tokens} tokens over 2 replicas"
    names = [f"token-{number}" for number in range(scale.shared_tokens)]
    async with _fleet(server, 2, names) as fleet:
        ways = [(replica, connected(replica.child.address, AT_ONCE // 2 * len(names))) for replica in fleet.replicas]
        async with ways[0][1] as first, ways[1][1] as second:
            lines = [
                *zip([fleet.replicas[0]] * len(first), first, strict=True),
                *zip([fleet.replicas[1]] * len(second), second, strict=True),
            ]
            called = await asyncio.gather(
                *(_feed(fleet, name, place, lines[place :: len(names)], scale) for place, name in enumerate(names))
            )
        arrivals = await fleet.recorder.arrivals(*names)
    used = used_together(arrivals)
    return [
        Figure(f"{title}: broke a window by over 10 ms", sum(breaches(times, TOLERANCE) for times in arrivals), "", NONE),
        Figure(f"{title}: broke a window at all", sum(breaches(times) for times in arrivals)),
        Figure(f"{title}: utilisation, mean", statistics.mean(used), "", scale.at_least(0.97)),
        Figure(f"{title}: utilisation, the least token's", min(used)),
        _wrong(title, [*chain(*called)]),
    ]


async def _feed(fleet: Fleet, token: str, place: int, lines: Sequence[tuple[Replica, Connection]], scale: Scale) -> list[Called]:
    """Make a token's calls, over several connections at once."""
    turns = iter(range(scale.sends))

    async def client(replica: Replica, connection: Connection) -> list[Called]:
        return [await fleet.ask(replica, token=token, over=connection) for _ in turns]

    await asyncio.sleep(place / BEGIN_A_SECOND)
    return [*chain(*await asyncio.gather(*(client(*line) for line in lines)))]


async def _idle(scale: Scale, server: Postgres) -> list[Figure]:
    """What turns shared through Valkey cost a call that needn't wait. The first round warms up."""
    names, direct = [f"lane-{number}" for number in range(scale.lanes)], [f"direct-{number}" for number in range(scale.lanes)]
    async with _fleet(server, 1, names, direct) as fleet:
        (replica,) = fleet.replicas
        async with connected(replica.child.address, 1) as (through,), connected(fleet.simulator.address, 1) as (past,):
            await _round(fleet, through, past)
            await asyncio.sleep(LAST_REPORT_SECONDS)
            scripts, trips = _scripts(fleet), replica.network.counted.round_trips
            samples = [await _round(fleet, through, past) for _ in range(min(ROUNDS, scale.rounds))]
            await asyncio.sleep(LAST_REPORT_SECONDS)
            scripts, trips = _scripts(fleet) - scripts, replica.network.counted.round_trips - trips
    gateway, upstream = ([one[way] for one in chain(*samples)] for way in (0, 1))
    title, calls = "an idle lane", len(gateway)
    return [
        Figure(f"{title}: round trips to Valkey a call", scripts / calls, "", Bound("≤", 2)),
        Figure(f"{title}: the same with the beats that go on by themselves", trips / calls),
        Figure(f"{title}: added by the gateway, median", percentile(gateway, 0.5) - percentile(upstream, 0.5), "ms"),
        Figure(f"{title}: added, 99th percentile less direct's", percentile(gateway, 0.99) - percentile(upstream, 0.99), "ms"),
    ]


async def _round(fleet: Fleet, through: Connection, past: Connection) -> list[tuple[float, float]]:
    """One call of each lane, through the gateway and straight to the simulator; gives how long both took, in ms."""
    began, (replica,) = time.monotonic(), fleet.replicas
    samples = []
    for name, direct in zip(fleet.cast.tokens, fleet.cast.direct, strict=True):
        took, _ = await timed(through, fleet.call(replica, name, next(fleet.orders), CALLER, 30))
        straight, _ = await timed(past, fleet.recorder.call(direct, f"orderIds={FIRST_ORDER}"))
        samples.append((took, straight))
    await asyncio.sleep(max(0.0, began + ROUND_SECONDS - time.monotonic()))
    return samples


def _scripts(fleet: Fleet) -> int:
    """How many scripts Valkey has run: each is a round trip."""
    return int(fleet.valkey.ask("INFO", "commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


@asynccontextmanager
async def _fleet(server: Postgres, replicas: int, tokens: Sequence[str] = (SHARED,), direct: Sequence[str] = ()) -> AsyncIterator[Fleet]:
    cast = Cast(tokens=tokens, direct=direct, callers=(CALLER, FLOOD), orders=ORDERS, environment={"GATEWAY_CALLER_DEPTH": "1000"})
    with valkey() as turns:
        async with assembled(cast, server, turns, replicas=replicas, proxied=replicas == 1) as fleet:
            yield fleet


def _kept(title: str, arrivals: Sequence[float]) -> list[Figure]:
    return [Figure(f"{title}: broke a window", breaches(arrivals), "", NONE), Figure(f"{title}: arrivals", len(arrivals))]


def _used(title: str, arrivals: Sequence[float], bound: Bound | None) -> Figure:
    return Figure(f"{title}: utilisation", utilisation(arrivals), "", bound)


def _wrong(title: str, called: Sequence[Called]) -> Figure:
    return Figure(f"{title}: answers that were not exactly the call's order", sum(not one.right for one in called), "", NONE)
