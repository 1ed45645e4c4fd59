"""What the benchmarks are played on: simulator, gateway and bare route, each a process, with state in a temporary folder."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from app.administration import Administration
from app.callers import GrantAsked, NewCaller
from app.domain import TokenKind, TokenValue
from app.opening import open_state
from app.settings import Settings
from app.vault import NewToken
from benchmarks.client import request_bytes
from benchmarks.processes import Child, free_address, spawned

__all__ = ["NETWORK", "PEERS", "Stage", "lane_name", "opened", "token_value"]

UNLIMITED = "1000000/second"
OWN_VARIABLES = "FLXPOINT_GATEWAY_BENCHMARKS_"
LONGEST_WAIT = 120
COLD_START_SECONDS = 1.5
PEERS = ("aiolimiter", "limits", "pyrate-limiter")
NETWORK = [0.02, 0.06]
"""The seconds, drawn at random between these two, that the slow network takes each way."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The running processes, the key of the gateway's one caller, the folder of the gateway's state, and when all was ready."""

    gateway: Child
    simulator: Child
    bare: Child
    key: str
    state_dir: Path
    ready_at: float

    def call(self, token: str | None, query: str) -> bytes:
        """`PATCH /orders/link?<query>` to the gateway, with a named token, ready to wait for long."""
        headers = {"Authorization": f"Bearer {self.key}", "Prefer": f"wait={LONGEST_WAIT}"} | ({"Gateway-Token": token} if token else {})
        return request_bytes("PATCH", f"/orders/link?{query}" if query else "/orders/link", self.gateway.address, headers)

    def direct_call(self, token: str, query: str) -> bytes:
        """The same straight to the simulator, as a client of Flxpoint makes it."""
        return request_bytes("PATCH", f"/orders/link?{query}", self.simulator.address, {"X-API-TOKEN": token_value(token)})

    async def warm(self) -> None:
        """Wait until the cold start of every lane is over."""
        await asyncio.sleep(max(0.0, self.ready_at + COLD_START_SECONDS - time.monotonic()))

    async def arrivals(self, token: str) -> list[float]:
        """When requests arrived at the simulator with a token; monotonic seconds."""
        async with self._control() as client:
            times: list[float] = (await client.get("/_simulator/arrivals", params={"token": token})).raise_for_status().json()
            return times

    async def statistics(self, token: str) -> dict[str, Any]:
        """What the simulator counted for a token."""
        async with self._control() as client:
            counted: dict[str, Any] = (await client.get("/_simulator/statistics")).raise_for_status().json()["tokens"][token]
            return counted

    async def slow_network(self, *tokens: str) -> None:
        """Put the slow network between the clients of these tokens and the simulator."""
        faults = [{"kind": "latency", "token": token, "out": NETWORK, "back": NETWORK} for token in tokens]
        async with self._control() as client:
            (await client.post("/_simulator/faults", json=faults)).raise_for_status()

    def _control(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.simulator.address.url, trust_env=False)


def lane_name(number: int) -> str:
    """The name of one of the tokens that the latency is measured over; the direct calls use `direct-` before it."""
    return f"lane-{number:02}"


def token_value(name: str) -> str:
    """The made-up value of a token."""
    return f"made-up-for-benchmarks-{name}"


@asynccontextmanager
async def opened(lanes: int) -> AsyncIterator[Stage]:
    """Start everything and wait until it is ready; stop it at the end.

    Args:
        lanes: how many tokens the latency is measured over.

    Raises:
        RuntimeError: a process doesn't start.
    """
    of_gateway = ["steady", "jittery", *(lane_name(number) for number in range(lanes))]
    direct = [*PEERS, *(f"{name}-network" for name in PEERS), *(f"direct-{lane_name(number)}" for number in range(lanes))]
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-benchmarks-") as folder:
        async with AsyncExitStack() as stack:
            simulator = stack.enter_context(_simulator(Path(folder), [*of_gateway, *direct]))
            bare = stack.enter_context(_bare(Path(folder)))
            settings = Settings(_env_prefix=OWN_VARIABLES, state_dir=Path(folder) / "state", upstream_url=simulator.address.url)
            key = await _prepare(settings, of_gateway)
            gateway = stack.enter_context(_gateway(Path(folder), settings))
            await asyncio.gather(simulator.ready("/_simulator/health"), bare.ready("/"), gateway.ready("/gateway/health/ready"))
            yield Stage(gateway, simulator, bare, key, settings.state_dir, time.monotonic())


def _simulator(folder: Path, names: Sequence[str]) -> AbstractContextManager[Child]:
    address = free_address()
    tokens = [f"--token={name}={token_value(name)}:account" for name in names]
    return spawned(["-m", "app.cli", "simulate", "--port", str(address.port), *tokens], address, folder / "simulator.log")


def _bare(folder: Path) -> AbstractContextManager[Child]:
    address = free_address()
    return spawned(["-m", "benchmarks.bare", str(address.port)], address, folder / "bare.log")


def _gateway(folder: Path, settings: Settings) -> AbstractContextManager[Child]:
    address = free_address()
    environment = {
        "GATEWAY_STATE_DIR": str(settings.state_dir),
        "GATEWAY_UPSTREAM_URL": str(settings.upstream_url),
        "GATEWAY_SHUTDOWN_GRACE": "0",
    }
    return spawned(["-m", "app.cli", "serve", "--port", str(address.port)], address, folder / "gateway.log", environment)


async def _prepare(settings: Settings, names: Sequence[str]) -> str:
    """Make the tokens and the caller that may use them all; gives its key."""
    async with open_state(settings) as (engine, keyring):
        administration = Administration(engine, keyring, "command:benchmarks")
        for name in names:
            await administration.add_token(NewToken(name, TokenKind.ACCOUNT, TokenValue(token_value(name))))
        grants = tuple(GrantAsked(name) for name in names)
        _, key = await administration.add_caller(NewCaller("benchmarks", grants, rate=UNLIMITED))
        return key.reveal()
