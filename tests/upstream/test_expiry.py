"""Waits that may last equally long."""

from __future__ import annotations

import asyncio

from app.upstream.expiry import Expiry

SHORT = 0.02


async def test_what_lasts_too_long_is_ended_in_the_order_in_which_it_began() -> None:
    """Each at its own time, though one timer serves all."""
    ended: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    expiry, began = Expiry(SHORT), loop.time()
    first = expiry.begin(lambda: ended.append(("first", loop.time() - began)))
    await asyncio.sleep(SHORT / 2)
    second = expiry.begin(lambda: ended.append(("second", loop.time() - began)))
    await asyncio.sleep(3 * SHORT)

    assert [name for name, _ in ended] == ["first", "second"]
    assert ended[0][1] >= 0.9 * SHORT
    assert ended[1][1] >= 1.4 * SHORT
    assert first.expired
    assert second.expired


async def test_what_is_over_is_left_alone() -> None:
    """Also where another, that began before or after, expires."""
    ended: list[str] = []
    expiry = Expiry(SHORT)
    waits = {name: expiry.begin(lambda name=name: ended.append(name)) for name in ("before", "over", "after")}  # type: ignore[misc]
    waits["over"].over()
    await asyncio.sleep(3 * SHORT)

    assert ended == ["before", "after"]
    assert not waits["over"].expired


async def test_a_wait_that_begins_when_all_are_over_expires_too() -> None:
    """The timer that was set for those before it serves it as well."""
    ended: list[str] = []
    expiry = Expiry(SHORT)
    expiry.begin(lambda: ended.append("over")).over()
    await asyncio.sleep(SHORT / 2)
    expiry.begin(lambda: ended.append("last"))
    await asyncio.sleep(3 * SHORT)

    assert ended == ["last"]
