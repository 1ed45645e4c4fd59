"""The limit on guessing: how many credentials that prove nobody one address may present."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request
from limits import RateLimitItem
from slowapi.errors import RateLimitExceeded

from app.api.counters import CallerLimiter
from app.callers import neighbourhood
from app.errors import CallerRateExceeded

__all__ = ["FailureLimit"]

RATE = "10/minute"
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 4_000
ELSEWHERE = "other"


class FailureLimit:
    """Counts failed authentications by address (IPv6: by /64), and never anything else.

    Who presents a valid credential is let in, whatever others behind the same address did: the credential is verified first.
    """

    def __init__(self) -> None:
        async def count(request: Request) -> None:
            """Counts one failure."""

        self._limiter = CallerLimiter(_place_of)
        self._count: Callable[..., Awaitable[None]] = self._limiter.shared_limit(RATE, scope="failure")(count)
        self._places = _Places()

    async def hit(self, request: Request) -> None:
        """Count one failure of the client at `request`.

        Raises:
            CallerRateExceeded: it had ten in a minute; this one is answered so instead.
        """
        request.state.place = self._places.counted(request.client.host if request.client else ELSEWHERE)
        try:
            await self._count(request=request)
        except RateLimitExceeded:
            limit, key = cast("tuple[RateLimitItem, list[str]]", request.state.view_rate_limit)
            resets = self._limiter.limiter.get_window_stats(limit, *key).reset_time
            detail = "too many credentials that are not valid came from this address"
            raise CallerRateExceeded(detail, retry_after=max(0.0, resets - time.time())) from None


class _Places:
    """The places that are counted each for itself: so many a minute, so that strangers from everywhere can't fill the memory."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._began = 0.0

    def counted(self, address: str) -> str:
        """Under what a failure from there is counted."""
        now = time.monotonic()
        if now - self._began >= WINDOW_SECONDS:
            self._known, self._began = set(), now
        place = neighbourhood(address)
        if place not in self._known and len(self._known) >= MOST_ADDRESSES:
            return ELSEWHERE
        self._known.add(place)
        return place


def _place_of(request: Request) -> str:
    place: str = request.state.place
    return place


# slowapi inspects it at each request; a function that brings its signature along makes that cheap.
_place_of.__signature__ = inspect.signature(_place_of)  # type: ignore[attr-defined]
