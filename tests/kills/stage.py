"""The stage of the kill test: the simulator, which lives through it, and gateways on one state folder, none of which does."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.administration import Administration
from app.audit import Signer
from app.callers import GrantAsked, NewCaller
from app.domain import TokenKind, TokenValue
from app.opening import open_state
from app.settings import Settings
from app.storage import writing
from app.vault import CHECKPOINT_SIGNING, NewToken, own_key
from tests import loopback
from tests.cli.processes import PATIENCE_SECONDS, Process, free_port, started, unmeasured
from tests.rig import settings_for

TOKENS = {f"shop-{number:03}": f"a-simulated-token-value-{number:04}" for number in range(50)}
CALLERS = ("orders", "returns", "website")
FIRST_ORDER = 1_000_000
ORDERS = 100_000
SLOW = {"kind": "latency", "out": [0.0, 0.02], "back": [0.05, 0.5]}
GRACE_SECONDS = 1
ALLOWANCE = "100000/second"


@dataclass
class Stage:
    """Where it plays: `keys` are the callers'."""

    folder: Path
    upstream: str
    keys: tuple[str, ...]
    settings: Settings
    port: int = field(default_factory=free_port)
    starts: int = 0

    @property
    def url(self) -> str:
        """The gateway's address, whichever process listens there."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        """The gateway's database."""
        return self.settings.database_path

    @property
    def variables(self) -> dict[str, str]:
        """What the gateway's processes and its commands are given; every other gateway merges calls."""
        return unmeasured(
            STATE_DIR=self.settings.state_dir,
            UPSTREAM_URL=self.upstream,
            CALLER_RATE=ALLOWANCE,
            SHUTDOWN_GRACE=GRACE_SECONDS,
            COALESCE=self.starts % 2,
            LOG_LEVEL="WARNING",
        )

    @contextmanager
    def gateway(self) -> Iterator[Process]:
        """The next gateway, from its very start; killed at the end, if it lives."""
        self.starts += 1
        folder = self.folder / f"gateway-{self.starts}"
        with started("serve", "--port", str(self.port), variables=self.variables, folder=folder) as gateway:
            yield gateway
            kill(gateway)

    async def signer(self) -> Signer:
        """Whose signature the checkpoints have."""
        async with open_state(self.settings) as (engine, keyring), writing(engine) as connection:
            return Signer(await own_key(connection, keyring, CHECKPOINT_SIGNING))

    def targets(self) -> dict[str, list[str]]:
        """What arrived at the simulator with each token."""
        return {name: self._told("targets", token=name) for name in TOKENS}

    def rate_limited(self) -> int:
        """How many arrivals broke the upstream's limit."""
        return sum(one["rate_limited"] for one in self._told("statistics")["tokens"].values())

    def _told(self, what: str, **parameters: str) -> Any:
        return loopback.get(f"{self.upstream}/_simulator/{what}", params=parameters).raise_for_status().json()


def kill(gateway: Process) -> None:
    """As a power cut would, but for what the operating system still writes."""
    if gateway.process.poll() is None:
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait(PATIENCE_SECONDS)


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """The stage, with every token known to both and granted to each caller."""
    port = free_port()
    tokens = [argument for name, value in TOKENS.items() for argument in ("--token", f"{name}={value}:account")]
    with ExitStack() as stack:
        simulating = started("simulate", "--port", str(port), *tokens, variables=unmeasured(), folder=folder / "simulator")
        upstream = f"http://127.0.0.1:{port}"
        stack.enter_context(simulating).wait_for(f"{upstream}/_simulator/health")
        _control(upstream, "seed", {"count": ORDERS, "first": FIRST_ORDER})
        _control(upstream, "faults", [SLOW])
        settings = settings_for(folder / "state", upstream_url=upstream)
        yield Stage(folder, upstream, await _prepared(settings), settings)


def _control(upstream: str, what: str, wish: Any) -> None:
    loopback.post(f"{upstream}/_simulator/{what}", json=wish, timeout=30).raise_for_status()


async def _prepared(settings: Settings) -> tuple[str, ...]:
    async with open_state(settings) as (engine, keyring):
        administration = Administration(engine, keyring, "test:kills")
        for name, value in TOKENS.items():
            await administration.add_token(NewToken(name, TokenKind.ACCOUNT, TokenValue(value)))
        grants = tuple(map(GrantAsked, TOKENS))
        return tuple([(await administration.add_caller(NewCaller(name, grants)))[1].reveal() for name in CALLERS])
