"""A simulator in simulated time, and a client to it over plain ASGI."""

import random
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.simulator.app import create_simulator
from app.simulator.tokens import SimulatedToken

from .clock import Clock

TOKENS = [
    SimulatedToken("main", "account-token-value-1", "account"),
    SimulatedToken("warehouse", "source-token-value-2", "source"),
    SimulatedToken("shop", "channel-token-value-3", "channel"),
]


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> FastAPI:
    """Return a simulator that knows one token of each kind."""
    return create_simulator(TOKENS, clock=clock, sleep=clock.sleep, rng=random.Random(7))  # noqa: S311 - a seed, not a secret


@pytest_asyncio.fixture
async def client(simulator: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client that presents the account token `main`."""
    headers = {"X-API-TOKEN": "account-token-value-1"}
    transport = httpx2.ASGITransport(app=simulator)
    async with httpx2.AsyncClient(transport=transport, base_url="http://upstream", headers=headers) as client:
        yield client
