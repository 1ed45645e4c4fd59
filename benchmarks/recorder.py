"""What the simulated Flxpoint saw, asked of its own endpoints, and the networks that it plays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx2

from benchmarks.client import Address, request_bytes
from benchmarks.upstream import token_value

__all__ = ["Recorder", "Span"]

Span = tuple[float, float]
"""Seconds, drawn at random between these two."""


class Recorder:
    """The simulator at an address, by its control endpoints, which it never counts as arrivals."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def call(self, token: str, query: str) -> bytes:
        """A call straight to the simulator, as a client of Flxpoint makes it."""
        return request_bytes("PATCH", f"/orders/link?{query}", self._address, {"X-API-TOKEN": token_value(token)})

    async def arrivals(self, *tokens: str) -> list[list[float]]:
        """For each token, when requests arrived with it; monotonic seconds, ascending."""
        async with self._control() as client:
            return [(await client.get("/_simulator/arrivals", params={"token": token})).raise_for_status().json() for token in tokens]

    async def targets(self, token: str) -> list[str]:
        """What each of a token's requests asked for: path and query."""
        async with self._control() as client:
            found: list[str] = (await client.get("/_simulator/targets", params={"token": token})).raise_for_status().json()
            return found

    async def refused(self, token: str) -> int:
        """How many of a token's requests were answered 429."""
        async with self._control() as client:
            counted: dict[str, Any] = (await client.get("/_simulator/statistics")).raise_for_status().json()["tokens"][token]
            return int(counted["rate_limited"])

    async def network(self, tokens: Iterable[str], out: Span, back: Span) -> None:
        """Put a network between the clients of these tokens and the simulator: what arrives, and what is answered, takes so long."""
        await self._order({"kind": "latency", "token": token, "out": out, "back": back} for token in tokens)

    async def close_after_answers(self, token: str) -> None:
        """Close the connection after each answer to this token."""
        await self._order([{"kind": "close", "token": token}])

    async def _order(self, faults: Iterable[Mapping[str, object]]) -> None:
        async with self._control() as client:
            (await client.post("/_simulator/faults", json=list(faults))).raise_for_status()

    def _control(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self._address.url, trust_env=False, timeout=30)
