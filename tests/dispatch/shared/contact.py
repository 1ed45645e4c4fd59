"""Links to a real Valkey, and what tests wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from app.dispatch.shared.address import valkey_connections
from app.dispatch.shared.link import Link
from app.dispatch.shared.turns import KEYS as NAMES
from app.domain import new_id
from tests.cli.processes import PATIENCE_SECONDS

__all__ = ["KEYS", "Watched", "linked", "terms"]

KEYS = [f"flxpoint-gateway:{{a-lane}}:{name}" for name in NAMES]


def terms(**more: Any) -> dict[str, Any]:
    """What a replica asks that wants nothing, of a lane with two sends a second; times in microseconds."""
    own = {"replica": "r1", "slots": 2, "per": 1_000_000, "valid": 100_000, "revision": 1, "proven": False, "in_flight": 8, "ahead": 0}
    return own | {"wants": [], "flying": [], "reports": [], "verdicts": [], "probes": [], "resumed": False} | more


class Watched:
    """A link with what it told of itself."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.replica = new_id()
        self._changed = asyncio.Event()
        link.on_change = self._changed.set

    async def until(self, condition: Callable[[Link], bool]) -> None:
        """Wait until something holds of the link, which is looked at whenever it tells of a change.

        Raises:
            TimeoutError: it doesn't.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition(self.link):
                await self._changed.wait()
                self._changed.clear()

    async def ask(self, **asked: Any) -> dict[str, Any]:
        """Have a replica tell that it wants nothing, as soon as there is contact."""
        await self.until(lambda link: link.connected)
        return await self.link.run("withdraw", KEYS, terms(replica=self.replica, **asked))


@asynccontextmanager
async def linked(address: str) -> AsyncIterator[Watched]:
    """A link that is kept while the context lasts."""
    link = Link(valkey_connections(address))
    watched = Watched(link)
    async with link.kept():
        yield watched
