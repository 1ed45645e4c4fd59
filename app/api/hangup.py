"""Noticing that a caller has hung up, so that its waiting call leaves the queue."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.requests import Request

__all__ = ["CLIENT_CLOSED_REQUEST", "HangUpWatch"]

CLIENT_CLOSED_REQUEST = 499
"""The status in the log of a request whose caller didn't wait for the answer."""

WATCHED_AFTER_SECONDS = 0.05


class HangUpWatch:
    """While the context lasts, its task is cancelled if the caller hangs up; the context ends quietly then, and `hung_up` is true.

    The watch begins after 50 ms. What is refused locally has its answer by then, and a task for each refusal would cost as much as the
    refusal. A hang-up in these 50 ms is noticed at their end.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.hung_up = False

    def __enter__(self) -> Self:
        self._working = _current_task()
        self._watching: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER_SECONDS, self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> bool:
        self._timer.cancel()
        if self._watching:
            self._watching.cancel()
        # As asyncio's own time-outs tell their cancellation from others'.
        return self.hung_up and self._working.uncancel() == 0 and kind is asyncio.CancelledError

    def _begin(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.hung_up = True
        self._working.cancel()


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task  # noqa: S101 - a coroutine of the loop's runs in a task
    return task
