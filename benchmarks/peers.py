"""The same question put to usual limiters: each paces as many queued calls of its own token, with httpx2 straight at the simulator.

They count what is released, not what arrives, and heed no answers; so over loopback they are at their best. Each also paces, at the same
time, calls that go over the slow network of the benchmark `pacing`. One that isn't installed is passed over: none of them is a dependency
of ours, but for `limits`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx2

from benchmarks.figures import Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import PEERS, Stage, token_value
from benchmarks.windows import RATE, WINDOW, breaches, most_in_any_window, utilisation

__all__ = ["measure"]

Acquire = Callable[[], Awaitable[object]]
FIRST_ORDER = 1001


async def measure(stage: Stage, scale: Scale) -> Report:
    """Measure those that are installed, one after the other."""
    figures: list[Figure] = []
    remarks: list[str] = []
    for name in PEERS:
        try:
            title = f"{name} {version(name)}"
        except PackageNotFoundError:
            remarks.append(f"{name}: not installed")
            continue
        await stage.slow_network(f"{name}-network")
        await asyncio.gather(_drive(stage, name, name, scale), _drive(stage, name, f"{name}-network", scale))
        figures += [*await _figures(stage, title, name), *await _figures(stage, f"{title}, 20-60 ms each way", f"{name}-network")]
    return Report(f"peers: usual limiters with {scale.waiting} queued calls, straight at the simulator", figures, remarks)


async def _drive(stage: Stage, name: str, token: str, scale: Scale) -> None:
    """Have the limiter pace the calls of a token."""
    acquire = LIMITERS[name]()
    headers = {"X-API-TOKEN": token_value(token)}
    async with httpx2.AsyncClient(base_url=stage.simulator.address.url, headers=headers, trust_env=False) as client:

        async def call(number: int) -> None:
            await acquire()
            await client.patch("/orders/link", params={"orderIds": FIRST_ORDER + number})

        await asyncio.gather(*(call(number) for number in range(scale.waiting)))


async def _figures(stage: Stage, title: str, token: str) -> list[Figure]:
    times = await stage.arrivals(token)
    refused = (await stage.statistics(token))["rate_limited"]
    return [
        Figure(f"{title}: broke a window", breaches(times)),
        Figure(f"{title}: answered 429", refused),
        Figure(f"{title}: most in any second", most_in_any_window(times)),
        Figure(f"{title}: utilisation", utilisation(times)),
    ]


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


LIMITERS: dict[str, Callable[[], Acquire]] = {"aiolimiter": _aiolimiter, "limits": _limits, "pyrate-limiter": _pyrate_limiter}
