"""One usual limiter that paces calls, as a process: `python -m benchmarks.limiters NAME URL COUNT TOKEN…`.

For each token a limiter of its own paces so many queued calls, made with httpx2. It writes a line for each token: how many calls were not
answered with exactly their order.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

import httpx2

from benchmarks.upstream import FIRST_ORDER, token_value
from benchmarks.windows import RATE, WINDOW

__all__ = ["LIMITERS"]

Acquire = Callable[[], Awaitable[object]]
"""Waits until a call's turn has come."""


def _aiolimiter() -> Acquire:
    """A leaky bucket."""
    acquire: Acquire = import_module("aiolimiter").AsyncLimiter(RATE, WINDOW).acquire
    return acquire


def _limits() -> Acquire:
    """A moving window. It doesn't wait by itself, so callers sleep until it says that it resets."""
    limiter = import_module("limits.aio.strategies").MovingWindowRateLimiter(import_module("limits.aio.storage").MemoryStorage())
    limit: Any = import_module("limits").RateLimitItemPerSecond(RATE)

    async def acquire() -> None:
        while not await limiter.hit(limit, "token"):
            resets: float = (await limiter.get_window_stats(limit, "token")).reset_time
            await asyncio.sleep(max(0.0, resets - time.time()))

    return acquire


def _pyrate_limiter() -> Acquire:
    """A sliding log that waits (version 4), with the buffer that it sets by itself."""
    pyrate = import_module("pyrate_limiter")
    limiter = pyrate.Limiter(pyrate.Rate(RATE, pyrate.Duration.SECOND))

    async def acquire() -> None:
        await limiter.try_acquire_async("token")

    return acquire


def _window() -> Acquire:
    """Our own ten lines: at most 2 sends in the second before, by the time of sending, without a guard."""
    sends: deque[float] = deque([-WINDOW] * RATE, maxlen=RATE)
    turn = asyncio.Lock()

    async def acquire() -> None:
        async with turn:
            while (wait := sends[0] + WINDOW - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            sends.append(time.monotonic())

    return acquire


LIMITERS: dict[str, Callable[[], Acquire]] = {
    "aiolimiter": _aiolimiter,
    "limits": _limits,
    "pyrate-limiter": _pyrate_limiter,
    "window": _window,
}


async def main(name: str, url: str, count: int, tokens: Sequence[str]) -> None:
    """Acquire all tokens' calls at the same time."""
    for wrong in await asyncio.gather(*(_drive(name, url, count, *one) for one in enumerate(tokens))):
        print(wrong)


async def _drive(name: str, url: str, count: int, place: int, token: str) -> int:
    acquire = LIMITERS[name]()
    first = FIRST_ORDER + place * count
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, headers={"X-API-TOKEN": token_value(token)}, trust_env=False, limits=limits) as client:

        async def call(order: int) -> bool:
            await acquire()
            answer = await client.patch("/orders/link", params={"orderIds": order})
            return answer.status_code == 200 and answer.json() == [order]

        right = await asyncio.gather(*(call(order) for order in range(first, first + count)))
    return count - sum(right)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
