"""The limit on guessing: how many credentials that prove nobody one address may present."""

from __future__ import annotations

import time

from fastapi import Request

from app.api.counting import Count
from app.callers import neighbourhood

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
        self._count = Count(RATE, "too many credentials that are not valid came from this address")
        self._places = _Places()

    async def hit(self, request: Request) -> None:
        """Count one failure of the client at `request`.

        Raises:
            CallerRateExceeded: it had ten in a minute; this one is answered so instead.
        """
        await self._count.hit(request, self._places.counted(request.client.host if request.client else ELSEWHERE))


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
