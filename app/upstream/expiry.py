"""Waits that may last equally long. The one that began first ends first, so one timer serves them all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Expiry", "Wait"]


@dataclass(slots=True, eq=False)
class Wait:
    """One wait. `expired`: it has lasted too long, and its end was brought about."""

    ends_at: float
    end: Callable[[], None] | None
    expired: bool = False

    def over(self) -> None:
        """It has ended by itself; nothing where it expired before."""
        self.end = None

    def expire(self) -> None:
        """Bring its end about; nothing where it is over."""
        if self.end:
            self.expired = True
            self.end()


class Expiry:
    """Ends what lasts longer than so many seconds. A timer for each would be set and cancelled in vain at nearly every one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits: deque[Wait] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, end: Callable[[], None]) -> Wait:
        """A wait begins; `end` is called if it isn't over in time."""
        loop = asyncio.get_running_loop()
        while self._waits and self._waits[0].end is None:
            self._waits.popleft()
        wait = Wait(loop.time() + self._seconds, end)
        self._waits.append(wait)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._ring, loop)
        return wait

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._waits and (self._waits[0].end is None or self._waits[0].ends_at <= now):
            self._waits.popleft().expire()
        if self._waits:
            self._timer = loop.call_later(self._waits[0].ends_at - now, self._ring, loop)
