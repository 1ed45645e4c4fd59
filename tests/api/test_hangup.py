"""The watch for a caller's hang-up: it ends the work, and takes no one else's cancellation for its own."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.api.hangup import HangUpWatch

FOREVER = 60


def request_from(*messages: str) -> Request:
    """A request whose connection tells these things, and then nothing."""
    left = list(messages)

    async def receive() -> Message:
        if left:
            return {"type": left.pop(0)}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    return Request({"type": "http"}, receive)


async def watched(request: Request, seconds: float) -> bool:
    """Work so long under a watch; whether the caller hung up."""
    with HangUpWatch(request) as watch:
        await asyncio.sleep(seconds)
    return watch.hung_up


async def test_a_hang_up_ends_the_work() -> None:
    """The work is cancelled, the context ends quietly, and the task may go on."""
    hung_up = await watched(request_from("http.request", "http.disconnect"), FOREVER)
    await asyncio.sleep(0)

    assert hung_up
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_work_that_ends_first_is_not_disturbed() -> None:
    """Neither work that ends before the watch begins, nor work that ends under it."""
    assert not await watched(request_from("http.disconnect"), 0)
    assert not await watched(request_from("http.request"), 0.08)


async def test_a_cancellation_by_others_goes_on() -> None:
    """A server that cancels the request's task means the task, not only its work."""
    working = asyncio.create_task(watched(request_from("http.request"), FOREVER))
    await asyncio.sleep(0.08)
    working.cancel()

    with pytest.raises(asyncio.CancelledError):
        await working


async def test_a_failure_is_not_hidden_by_a_hang_up() -> None:
    """What the work raises when it is ended is raised."""

    async def fail() -> None:
        with HangUpWatch(request_from("http.disconnect")):
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError):
        await fail()
