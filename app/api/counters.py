"""slowapi as the gateway uses it: counting in memory, and told by nobody but the code.

`limits`' own memory storage starts a thread at almost every request.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from limits.storage import Storage
from slowapi import Limiter

__all__ = ["CallerCounters", "CallerLimiter"]

MOST_COUNTERS = 10_000

T = TypeVar("T")


class CallerCounters(Storage):
    """Counters that end with their window. What has ended is cleared when there are many; slowapi finds the class by its scheme."""

    STORAGE_SCHEME = ["caller-counters"]  # noqa: RUF012 - the library's own attribute

    def __init__(self, uri: str | None = None, *, wrap_exceptions: bool = False, **options: float | str | bool) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        self._counters: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What the storage may raise."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count; a counter begins anew `expiry` seconds after its first count."""
        now = time.time()
        count, ends = self._counters.get(key, (0, 0.0))
        if ends <= now:
            count, ends = 0, now + expiry
            self._clear_ended(now)
        self._counters[key] = (count + amount, ends)
        return count + amount

    def get(self, key: str) -> int:
        """The count of a window that hasn't ended."""
        count, ends = self._counters.get(key, (0, 0.0))
        return count if ends > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends, in seconds since the epoch."""
        return self._counters.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        """It is always there."""
        return True

    def reset(self) -> int | None:
        """Forget all counters."""
        count = len(self._counters)
        self._counters.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._counters.pop(key, None)

    def _clear_ended(self, now: float) -> None:
        if len(self._counters) >= MOST_COUNTERS:
            self._counters = {key: counter for key, counter in self._counters.items() if counter[1] > now}


class CallerLimiter(Limiter):
    """slowapi's limiter over these counters.

    By itself it takes settings from `RATELIMIT_*` variables and a file `.env` where the process happens to run: one of them switches every
    limit off, another has failures passed over.

    Args:
        key_func: whose request it is.
    """

    def __init__(self, key_func: Callable[[Request], str]) -> None:
        with warnings.catch_warnings():
            # It warns that the file which it is told to read instead of `.env` is none.
            warnings.simplefilter("ignore")
            super().__init__(key_func=key_func, storage_uri=f"{CallerCounters.STORAGE_SCHEME[0]}://", config_filename=os.devnull)

    def get_app_config(self, key: str, default_value: T = None) -> T:  # type: ignore[assignment]  # noqa: ARG002 - slowapi's own signature
        """The default of every setting."""
        return default_value
