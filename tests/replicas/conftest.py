"""Three replicas for a whole file, each with a network of its own between it and Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from benchmarks.stage import Cast
from tests.replicas.fleet import Fleet, assembled
from tests.servers.postgres import Postgres
from tests.servers.valkey import find_faketime, valkey

TOKENS = 12
CAST = Cast(tokens=[f"shop-{number}" for number in range(TOKENS)], callers=["flood", "single"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(postgres_server: Postgres) -> AsyncIterator[Fleet]:
    """They start once; each test takes a token that no other uses, and leaves all as they were."""
    with valkey(clock=find_faketime()) as turns:
        async with assembled(CAST, postgres_server, turns, replicas=3, proxied=True) as running:
            yield running
