"""Counting requests with slowapi, whoever they are counted for."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request
from limits import RateLimitItem
from slowapi.errors import RateLimitExceeded

from app.api.counters import CallerLimiter
from app.errors import CallerRateExceeded

__all__ = ["Count"]


class Count:
    """The requests of all that have one rate, each counted for itself.

    slowapi's middleware lets routes through unlimited, so its decorator is used, on a function that a dependency calls.

    Args:
        rate: in slowapi's syntax, such as `100/second`.
        detail: what one too many is told, with `{limit}` for the rate.
    """

    def __init__(self, rate: str, detail: str) -> None:
        async def count(request: Request) -> None:
            """Counts one request."""

        self._detail = detail
        self._limiter = CallerLimiter(_counted)
        self._count: Callable[..., Awaitable[None]] = self._limiter.shared_limit(rate, scope="count")(count)

    async def hit(self, request: Request, counted: str) -> None:
        """Count one request for `counted`.

        Raises:
            CallerRateExceeded
        """
        request.state.counted = counted
        # slowapi counts a request once, whoever counts; a ticket's is counted twice.
        request.state._rate_limiting_complete = False  # noqa: SLF001 - slowapi's own mark
        try:
            await self._count(request=request)
        except RateLimitExceeded:
            limit, key = cast("tuple[RateLimitItem, list[str]]", request.state.view_rate_limit)
            resets = self._limiter.limiter.get_window_stats(limit, *key).reset_time
            raise CallerRateExceeded(self._detail.format(limit=limit), retry_after=max(0.0, resets - time.time())) from None


def _counted(request: Request) -> str:
    counted: str = request.state.counted
    return counted


# slowapi inspects it at each request; a function that brings its signature along makes that cheap.
_counted.__signature__ = inspect.signature(_counted)  # type: ignore[attr-defined]
