"""Replicas before one simulated Flxpoint: each a process with a state folder of its own, all with one PostgreSQL, one Valkey and one key.

The load on them is made here too: each call has a connection of its own and an order that no other call has.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

from app.domain import utc_now
from benchmarks.client import Connection, connected, request_bytes
from benchmarks.crowd import Told, ask, linked
from benchmarks.processes import Child, free_address, spawned
from benchmarks.recorder import Recorder
from benchmarks.stage import Cast, gateway_variables, prepare, simulated
from benchmarks.upstream import FIRST_ORDER
from tests.cli.processes import PATIENCE_SECONDS
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy, proxied
from tests.servers.valkey import Valkey

__all__ = ["DESERTED_SECONDS", "READY", "Called", "Fleet", "Replica", "assembled"]

READY = "/gateway/health/ready"
POLL_SECONDS = 0.02
LONGEST_WAIT = 60
DESERTED_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Replica:
    """One gateway's process, and the proxy between it and Valkey, where there is one."""

    child: Child
    proxy: Proxy | None

    @property
    def network(self) -> Proxy:
        """The proxy.

        Raises:
            AssertionError: the fleet has none.
        """
        assert self.proxy
        return self.proxy

    def kill(self) -> None:
        """End it as a power cut does."""
        self.child.process.kill()
        self.child.process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It stands still meanwhile."""
        self.child.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.child.process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it logged."""
        return self.child.log.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Called:
    """A call: of which order, by which replica, and its answer; None where the connection was gone before."""

    order: int
    replica: Replica
    told: Told | None

    @property
    def right(self) -> bool:
        """Whether the answer is exactly the call's order."""
        return self.told is not None and linked(self.told) == [self.order]

    @property
    def status(self) -> int | None:
        """The answer's status."""
        return self.told.answer.status if self.told else None

    @property
    def problem(self) -> str:
        """The answer's problem code; empty where it has none."""
        if self.told is None or self.right:
            return ""
        return self.told.answer.body.decode().partition("/gateway/problems/")[2].partition('"')[0]


@dataclass
class Fleet:
    """What runs; `keys` are the callers', by name, and `replicas` all that were ever started. `proxied`: each has its own way to Valkey."""

    cast: Cast
    folder: Path
    simulator: Child
    recorder: Recorder
    keys: Mapping[str, str]
    postgres: Postgres
    valkey: Valkey
    variables: Mapping[str, str]
    stack: ExitStack
    proxied: bool
    replicas: list[Replica] = field(default_factory=list)
    orders: count[int] = field(default_factory=lambda: count(FIRST_ORDER))
    tokens: count[int] = field(default_factory=count)

    @property
    def living(self) -> list[Replica]:
        """The replicas that run."""
        return [replica for replica in self.replicas if replica.child.process.poll() is None]

    def next_token(self) -> str:
        """A token that nobody used yet: what arrives with it is the test's own."""
        return self.cast.tokens[next(self.tokens)]

    def start(self, **variables: str) -> Replica:
        """Start one more replica; it isn't waited for. `variables` change those that all have, such as `GATEWAY_VALKEY_URL`."""
        number, address = len(self.replicas), free_address()
        proxy = self.stack.enter_context(proxied(self.valkey.port)) if self.proxied else None
        own = {"GATEWAY_STATE_DIR": str(self.folder / f"replica-{number}")}
        own |= {"GATEWAY_VALKEY_URL": self.valkey.address_at(proxy.port)} if proxy else {}
        arguments = ["-m", self.cast.program, "serve", "--port", str(address.port)]
        log = self.folder / f"replica-{number}.log"
        child = self.stack.enter_context(spawned(arguments, address, log, {**self.variables, **own, **variables}))
        replica = Replica(child, proxy)
        self.replicas.append(replica)
        return replica

    async def ready(self, *replicas: Replica) -> None:
        """Wait until these, or all, are ready.

        Raises:
            RuntimeError: one doesn't start.
        """
        await asyncio.gather(*(replica.child.ready(READY) for replica in replicas or self.living))

    async def readiness(self, replica: Replica) -> int:
        """The status by which a replica says whether it is ready."""
        async with connected(replica.child.address, 1) as (connection,):
            return (await connection.exchange(request_bytes("GET", READY, replica.child.address))).status

    def call(self, replica: Replica, token: str, order: int, caller: str, wait: int) -> bytes:
        """The request that links an order; `wait` in seconds."""
        headers = {"Authorization": f"Bearer {self.keys[caller]}", "Prefer": f"wait={wait}", "Gateway-Token": token}
        return request_bytes("PATCH", f"/orders/link?orderIds={order}", replica.child.address, headers)

    async def ask(
        self, replica: Replica, *, token: str = "", caller: str = "", wait: int = LONGEST_WAIT, over: Connection | None = None
    ) -> Called:
        """Link the next order; with the first token and as the first caller, unless others are named.

        Args:
            replica: whom to ask.
            token: which token to use.
            caller: who calls.
            wait: how long to wait, in seconds.
            over: a connection that is open already; without one, the call has its own.
        """
        order = next(self.orders)
        request = self.call(replica, token or self.cast.tokens[0], order, caller or self.cast.callers[0], wait)
        try:
            if over:
                return Called(order, replica, await ask(over, request))
            async with connected(replica.child.address, 1) as (connection,):
                return Called(order, replica, await ask(connection, request))
        except OSError:
            return Called(order, replica, None)

    async def ask_all(
        self, calls: int, replicas: Sequence[Replica] = (), *, token: str = "", caller: str = "", wait: int = LONGEST_WAIT
    ) -> list[Called]:
        """Make so many calls at once, spread evenly over these replicas, or all."""
        turns = zip(cycle(replicas or self.living), range(calls), strict=False)
        return await asyncio.gather(*(self.ask(replica, token=token, caller=caller, wait=wait) for replica, _ in turns))

    async def arrivals(self, token: str = "") -> list[float]:
        """When requests arrived at the simulator with a token, or the first; monotonic seconds, ascending."""
        [times] = await self.recorder.arrivals(token or self.cast.tokens[0])
        return times

    async def arrived(self, number: int, token: str = "") -> None:
        """Wait until so many requests have arrived.

        Raises:
            TimeoutError: they don't in time.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(await self.arrivals(token)) < number:
                await asyncio.sleep(POLL_SECONDS)

    async def crowded(self, number: int) -> None:
        """Wait until Valkey keeps so many places or more.

        Raises:
            TimeoutError: it doesn't in time.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.places() < number:
                await asyncio.sleep(POLL_SECONDS)

    async def deserted(self) -> None:
        """Wait until Valkey keeps no place any more.

        Raises:
            TimeoutError: after 10 s there still are some.
        """
        async with asyncio.timeout(DESERTED_SECONDS):
            while self.places():
                await asyncio.sleep(POLL_SECONDS)

    def records(self) -> list[dict[str, Any]]:
        """Everything on record, oldest first."""
        return [json.loads(body) for body in self._ask_database("SELECT body FROM audit_records ORDER BY number")]

    def expire(self, chain: str) -> None:
        """End the lease of a dead process's chain now, for which the others would wait 30 s."""
        self._ask_database(f"UPDATE audit_chains SET lease_until = '{utc_now()}' WHERE id = '{chain}' AND closed_at IS NULL")  # noqa: S608

    def _ask_database(self, statement: str) -> list[str]:
        return self.postgres.ask(statement, self.variables["GATEWAY_DATABASE_URL"].rpartition("/")[2])

    def places(self) -> int:
        """How many places for waiting calls Valkey keeps, of all replicas and lanes."""
        return sum(int(self.valkey.ask("ZCARD", key)) for key in self.valkey.ask("KEYS", "flxpoint-gateway:*:places"))


@asynccontextmanager
async def assembled(cast: Cast, postgres: Postgres, valkey: Valkey, *, replicas: int, proxied: bool = False) -> AsyncIterator[Fleet]:
    """So many replicas that are ready, with a database of their own in that PostgreSQL; everything stops at the end.

    Args:
        cast: who plays.
        postgres: where the database is made.
        valkey: where turns are shared.
        replicas: how many begin.
        proxied: whether each replica has a proxy of its own before Valkey.

    Raises:
        RuntimeError: one doesn't start.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-replicas-") as name, ExitStack() as stack:
        folder = Path(name)
        shared = {"database_url": postgres.new_database(), "master_keys": f"k1:{base64.b64encode(os.urandom(32)).decode()}"}
        simulator = stack.enter_context(simulated(folder, cast))
        keys = await prepare(folder / "preparing", cast, **shared)
        given = {f"GATEWAY_{name.upper()}": value for name, value in shared.items()} | {"GATEWAY_VALKEY_URL": valkey.address}
        variables = gateway_variables(folder, simulator.address.url, {**given, **cast.environment})
        fleet = Fleet(cast, folder, simulator, Recorder(simulator.address), keys, postgres, valkey, variables, stack, proxied)
        for _ in range(replicas):
            fleet.start()
        await simulator.ready("/_simulator/health")
        await fleet.ready()
        yield fleet
