"""A whole gateway before a simulated Flxpoint, both on real sockets in this process, for tests that go all the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from app.administration import Administration
from app.audit import list_records
from app.callers import GrantAsked, NewCaller
from app.cli.serving import free_port, gateway_config, running
from app.domain import TokenKind, TokenValue
from app.main import House, create_app
from app.opening import open_state
from app.settings import Settings
from app.simulator.app import create_simulator
from app.simulator.protocol import server_config
from app.simulator.tokens import SimulatedToken
from app.storage import reading
from app.vault import NewToken
from tests import loopback

TOKEN = SimulatedToken("shop", "a-simulated-token-value-0001", "account")
NO_ENVIRONMENT = "TEST_GATEWAY_WITHOUT_ENVIRONMENT_"


def settings_for(state_dir: Path, **given: Any) -> Settings:
    """Settings that nothing in the environment changes."""
    return Settings(_env_prefix=NO_ENVIRONMENT, state_dir=state_dir, **given)


@dataclass
class Rig:
    """The gateway at `url` with one caller that holds `key`, and the simulator at `upstream`."""

    url: str
    upstream: str
    key: str
    app: FastAPI
    client: httpx2.AsyncClient
    settings: Settings

    @property
    def house(self) -> House:
        """The running gateway's inside."""
        house: House = self.app.state.house
        return house

    async def link(self, query: str, **headers: str) -> httpx2.Response:
        """`PATCH /orders/link?<query>` with the caller's key."""
        given = {"Authorization": f"Bearer {self.key}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.patch(f"{self.url}/orders/link?{query}", headers=given)

    async def taken_in(self, calls: Sequence[asyncio.Task[httpx2.Response]], token: str = TOKEN.name) -> None:
        """Wait until every one of these calls waits for its turn with a token, is under way, or has ended; merging is off."""

        async def found() -> bool:
            lane = next(report for report in self.house.dispatcher.reports() if report.token == token)
            return sum(lane.waiting.values()) + lane.in_flight + sum(call.done() for call in calls) >= len(calls)

        await until(found)

    async def plan(self, *faults: dict[str, Any]) -> None:
        """Order faults at the simulator."""
        (await self.client.post(f"{self.upstream}/_simulator/faults", json=list(faults))).raise_for_status()

    async def reset(self) -> None:
        """Put the simulator back to its beginning."""
        (await self.client.post(f"{self.upstream}/_simulator/reset")).raise_for_status()

    async def statistics(self, token: str = TOKEN.name) -> dict[str, Any]:
        """What arrived at the simulator with a token."""
        answer: dict[str, Any] = (await self.client.get(f"{self.upstream}/_simulator/statistics")).json()
        return answer["tokens"][token]  # type: ignore[no-any-return]

    async def arrivals(self, token: str = TOKEN.name) -> list[float]:
        """When requests arrived at the simulator with a token; monotonic seconds."""
        answer: list[float] = (await self.client.get(f"{self.upstream}/_simulator/arrivals", params={"token": token})).json()
        return answer

    async def records(self) -> list[dict[str, Any]]:
        """Everything on record, oldest first."""
        self.house.audit.flush()
        await self.house.audit.settled()
        async with reading(self.house.engine) as connection:
            return (await list_records(connection, limit=10_000))[::-1]

    async def administer(self, work: Callable[[Administration], Awaitable[Any]]) -> Any:
        """Change tokens or callers as a command would, and have the running gateway see it at once."""
        async with open_state(self.settings) as (engine, keyring):
            result = await work(Administration(engine, keyring, "test:rig"))
        await self.house.refresh()
        return result


@asynccontextmanager
async def rigged(state_dir: Path, tokens: Sequence[SimulatedToken] = (TOKEN,), **given: Any) -> AsyncIterator[Rig]:
    """Start both, with every token known to both and granted to the one caller."""
    async with running(server_config(create_simulator(tokens), "127.0.0.1", 0), free_port()) as upstream:
        settings = settings_for(state_dir, **({"upstream_url": upstream} | given))
        key = await _prepare(settings, tokens)
        app = create_app(settings)
        async with app.router.lifespan_context(app), loopback.async_client(timeout=60) as client:
            config = gateway_config(app, host="127.0.0.1", port=0, grace=settings.shutdown_grace)
            async with running(config, free_port()) as url:
                yield Rig(url, upstream, key, app, client, settings)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again until the condition holds.

    Raises:
        TimeoutError: it doesn't within 10 s.
    """
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


async def _prepare(settings: Settings, tokens: Sequence[SimulatedToken]) -> str:
    async with open_state(settings) as (engine, keyring):
        administration = Administration(engine, keyring, "test:rig")
        for token in tokens:
            await administration.add_token(NewToken(token.name, TokenKind(token.kind), TokenValue(token.value)))
        grants = tuple(GrantAsked(token.name) for token in tokens)
        _, key = await administration.add_caller(NewCaller("order-service", grants))
        return key.reveal()
