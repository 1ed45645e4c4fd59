"""Where slowapi counts: in memory, without the thread that `limits`' own memory storage starts at almost every request."""

from __future__ import annotations

import time

from limits.storage import Storage

__all__ = ["CallerCounters"]

MOST_COUNTERS = 10_000


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
