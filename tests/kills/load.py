"""The load of the kill test: clients that go on calling, whether or not a gateway lives, and keep what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2

from tests import loopback
from tests.kills.stage import FIRST_ORDER, TOKENS, Stage

CLIENTS = 100
HASTY = 2
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Told:
    """What a client was told: `code` is `ok` or a problem's, `result` the answer's content."""

    request_id: str
    ids: tuple[str, ...]
    code: str
    result: Any


@dataclass
class Load:
    """Clients of all callers, over all tokens, each call with IDs of its own."""

    stage: Stage
    client: httpx2.AsyncClient
    dice: random.Random
    told: list[Told] = field(default_factory=list)
    unanswered: int = 0
    _ids: count[int] = field(default_factory=lambda: count(FIRST_ORDER))

    async def call(self) -> None:
        """Call with one to three IDs, again and again."""
        while True:
            ids = tuple(str(next(self._ids)) for _ in range(self.dice.randint(1, 3)))
            await self._ask(ids, {"orderIds": ",".join(ids)}, self.dice.choice(list(TOKENS)))

    async def err(self) -> None:
        """Call without a parameter, again and again: the record of the refusals fills chains, so that checkpoints fall due."""
        while True:
            await self._ask((), {}, next(iter(TOKENS)))

    async def _ask(self, ids: tuple[str, ...], query: dict[str, str], token: str) -> None:
        headers = {"Authorization": f"Bearer {self.dice.choice(self.stage.keys)}", "Gateway-Token": token, "Prefer": "wait=20"}
        try:
            answer = await self.client.patch(f"{self.stage.url}/orders/link", params=query, headers=headers)
        except httpx2.TransportError:
            self.unanswered += 1
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            self.told.append(_told(ids, answer))


def _told(ids: tuple[str, ...], answer: httpx2.Response) -> Told:
    result = answer.json()
    code = "ok" if answer.is_success else str(result["type"]).rsplit("/", 1)[-1]
    return Told(answer.headers["X-Request-ID"], ids, code, result)


@asynccontextmanager
async def loaded(stage: Stage, dice: random.Random) -> AsyncIterator[Load]:
    """Clients that call as long as the context lasts."""
    limits = httpx2.Limits(max_connections=None)
    async with loopback.async_client(timeout=30, limits=limits) as client:
        load = Load(stage, client, dice)
        tasks = [asyncio.create_task(load.call()) for _ in range(CLIENTS)] + [asyncio.create_task(load.err()) for _ in range(HASTY)]
        try:
            yield load
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
