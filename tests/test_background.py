"""Work in the background: it lasts as long as its context, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from app.background import hears, kept_running


async def test_work_ends_with_its_context() -> None:
    """It goes on meanwhile, and at the end it is cancelled and has cleaned up, also where the context ends by an error."""
    told: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("cleaned up")

    async def fail() -> None:
        async with kept_running(work()):
            await begun.wait()
            raise LookupError

    async with kept_running(work()):
        await begun.wait()
    begun.clear()
    with pytest.raises(LookupError):
        await fail()

    assert told == ["cleaned up", "cleaned up"]


async def test_a_sign_is_heard_once() -> None:
    """It is taken down when it was heard; without one the wait ends by itself."""
    sign = asyncio.Event()
    sign.set()

    assert await hears(sign, 20)
    assert not await hears(sign, 0)
