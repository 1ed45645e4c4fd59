"""What a benchmark is played on: a gateway before a simulated Flxpoint, each a process of its own, with state in a temporary folder."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.administration import Administration
from app.callers import GrantAsked, NewCaller
from app.domain import TokenKind, TokenValue
from app.opening import open_state
from app.settings import Settings
from app.vault import NewToken
from benchmarks.client import request_bytes
from benchmarks.processes import Child, free_address, spawned
from benchmarks.recorder import Recorder
from benchmarks.relay import Relay, relayed
from benchmarks.upstream import token_value

__all__ = [
    "CALLER",
    "COLD_START_SECONDS",
    "LONGEST_WAIT",
    "OWN_VARIABLES",
    "Cast",
    "Stage",
    "gateway_variables",
    "opened",
    "prepare",
    "simulated",
]

CALLER = "benchmarks"
UNLIMITED = "1000000/second"
OWN_VARIABLES = "FLXPOINT_GATEWAY_BENCHMARKS_"
LONGEST_WAIT = 600
COLD_START_SECONDS = 1.5
PREPARING = asyncio.Lock()
"""The migrations' own state is the process's, so one state folder is prepared at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays.

    Args:
        tokens: the tokens that gateway and simulator know, by name.
        direct: more tokens that the simulator knows, for calls past the gateway.
        callers: the gateway's callers; each may use every token.
        rate: of every token, in requests a second, at both.
        orders: how many orders the simulated account has.
        environment: further variables for the gateway.
        program: the module that is run as the gateway.
        set_up: seconds that each connection from the gateway to the simulator takes to set up, with TLS; None: no TLS.
    """

    tokens: Sequence[str]
    direct: Sequence[str] = ()
    callers: Sequence[str] = (CALLER,)
    rate: int = 2
    orders: int = 1_000
    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = "app.cli"
    set_up: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The running processes, the callers' keys by name, the folder of the gateway's state, and when all was ready (monotonic seconds)."""

    gateway: Child
    simulator: Child
    recorder: Recorder
    relay: Relay | None
    keys: Mapping[str, str]
    state_dir: Path
    ready_at: float

    def call(self, token: str | None, query: str, caller: str = CALLER, wait: int = LONGEST_WAIT) -> bytes:
        """`PATCH /orders/link?<query>` to the gateway, with a named token; `wait` in seconds."""
        headers = {"Authorization": f"Bearer {self.keys[caller]}", "Prefer": f"wait={wait}"}
        headers |= {"Gateway-Token": token} if token else {}
        return request_bytes("PATCH", f"/orders/link?{query}" if query else "/orders/link", self.gateway.address, headers)

    async def warm(self) -> None:
        """Wait until the cold start of every lane is over."""
        await asyncio.sleep(max(0.0, self.ready_at + COLD_START_SECONDS - time.monotonic()))


@asynccontextmanager
async def opened(cast: Cast) -> AsyncIterator[Stage]:
    """Start everything and wait until it is ready; stop it at the end.

    Raises:
        RuntimeError: a process doesn't start.
    """
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-benchmarks-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            simulator = stack.enter_context(simulated(folder, cast))
            relay = None if cast.set_up is None else stack.enter_context(relayed(folder, simulator.address, cast.set_up))
            keys = await prepare(folder / "state", cast)
            variables = gateway_variables(folder / "state", relay.url if relay else simulator.address.url, cast.environment)
            variables |= {"SSL_CERT_FILE": str(relay.authority)} if relay else {}
            gateway = stack.enter_context(_gateway(folder, cast.program, variables))
            await asyncio.gather(simulator.ready("/_simulator/health"), gateway.ready("/gateway/health/ready"))
            if relay:
                await relay.ready()
            yield Stage(gateway, simulator, Recorder(simulator.address), relay, keys, folder / "state", time.monotonic())


def simulated(folder: Path, cast: Cast) -> AbstractContextManager[Child]:
    """The simulator's process."""
    address, names = free_address(), folder / "tokens"
    names.write_text("\n".join([*cast.tokens, *cast.direct]), encoding="ascii")
    numbers = [str(number) for number in (address.port, cast.rate, cast.orders)]
    return spawned(["-m", "benchmarks.upstream", *numbers, str(names)], address, folder / "simulator.log")


def gateway_variables(state_dir: Path, upstream: str, further: Mapping[str, str]) -> dict[str, str]:
    """The gateway's environment: with waits as long as the benchmarks' calls prefer, and no grace for those left over at the end."""
    return {
        "GATEWAY_STATE_DIR": str(state_dir),
        "GATEWAY_UPSTREAM_URL": upstream,
        "GATEWAY_MAX_WAIT": str(LONGEST_WAIT),
        "GATEWAY_SHUTDOWN_GRACE": "0",
        "GATEWAY_LOG_LEVEL": "WARNING",
        **further,
    }


async def prepare(state_dir: Path, cast: Cast, **given: Any) -> dict[str, str]:  # noqa: ANN401 - settings of any kind
    """Make the tokens, and the callers that may use them all; gives the callers' keys. `given` are further settings."""
    settings = Settings(_env_prefix=OWN_VARIABLES, state_dir=state_dir, **given)
    grants = tuple(GrantAsked(name) for name in cast.tokens)
    keys = {}
    async with PREPARING, open_state(settings) as (engine, keyring):
        administration = Administration(engine, keyring, "command:benchmarks")
        for name in cast.tokens:
            await administration.add_token(NewToken(name, TokenKind.ACCOUNT, TokenValue(token_value(name)), cast.rate))
        for name in cast.callers:
            _, key = await administration.add_caller(NewCaller(name, grants, rate=UNLIMITED))
            keys[name] = key.reveal()
    return keys


def _gateway(folder: Path, program: str, variables: Mapping[str, str]) -> AbstractContextManager[Child]:
    address = free_address()
    return spawned(["-m", program, "serve", "--port", str(address.port)], address, folder / "gateway.log", variables)
