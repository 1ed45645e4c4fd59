"""Memory for each waiting call, all included: what the gateway's process grows by while many calls wait over HTTP, for each of them.

A bare FastAPI handler that waits and watches for a hang-up is measured the same way. Both are warmed up by some calls before.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.bare import bared
from benchmarks.client import Connection, connected, request_bytes
from benchmarks.figures import Bound, Figure, Report
from benchmarks.processes import Child
from benchmarks.scale import Scale
from benchmarks.stage import Cast, opened
from benchmarks.upstream import FIRST_ORDER

__all__ = ["measure", "open_files_for"]

WARMING = 20
BATCH, BATCH_SECONDS = 50, 0.1
"""So many calls come at a time, and so long after one another: the record isn't what is measured here."""
OK = "200"
POLL_SECONDS = 0.5
STEADY = 0.002
"""The share by which memory may still change between two looks, to count as settled."""
MOST_LOOKS = 60
LONG = 3600
SPARE_FILES = 200


async def measure(scale: Scale) -> Report:
    """Measure both, one after the other."""
    held = open_files_for(scale.held)
    ours, waiting, ended = await _gateway(held)
    with tempfile.TemporaryDirectory() as folder, bared(Path(folder)) as bare:
        await bare.ready("/")
        request = request_bytes("PATCH", "/waiting", bare.address)
        theirs, _, _ = await _grown(bare, [request] * WARMING, [request] * held)
    figures = [
        Figure(
            "the gateway, for each waiting call",
            ours / 1024,
            "KiB",
            scale.at_most(36),
            f"a bare handler that waits: {theirs / 1024:.1f} KiB",
        ),
        Figure("a bare handler that waits, for each", theirs / 1024, "KiB"),
        Figure("calls that ended otherwise than well", len(ended), "", Bound("≤", 0)),
        Figure("share of the calls that were waiting when it was measured", waiting / held, "", scale.at_least(0.97)),
    ]
    remarks = [f"{held:,} calls; by the processes' proportional set size, the kernel's own memory not included; nothing was pinned"]
    remarks += [f"the first call that ended so: {ended[0]}"] if ended else []
    if held < scale.held:
        remarks.append(f"the bound on open files allows no more than {held:,} calls, not {scale.held:,}")
    return Report("memory: what a waiting call takes", figures, remarks)


def open_files_for(connections: int) -> int:
    """Raise the bound on open files, for this process and those it starts; gives for how many connections that is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - SPARE_FILES)


async def _gateway(held: int) -> tuple[float, int, list[str]]:
    depths = {"GATEWAY_LANE_DEPTH": str(2 * held), "GATEWAY_CALLER_DEPTH": str(2 * held), "GATEWAY_MAX_WAIT": str(LONG)}
    async with opened(Cast(tokens=["shared", "warming"], orders=held + WARMING, environment=depths)) as stage:
        orders = range(FIRST_ORDER, FIRST_ORDER + held)
        calls = [stage.call("shared", f"orderIds={order}", wait=LONG) for order in orders]
        warming = [stage.call("warming", f"orderIds={orders.stop + number}") for number in range(WARMING)]
        return await _grown(stage.gateway, warming, calls)


async def _grown(child: Child, warming: Sequence[bytes], requests: Sequence[bytes]) -> tuple[float, int, list[str]]:
    """By how many bytes the process grew for each call that waits, how many do, once it has settled, and what ended it for others."""
    async with AsyncExitStack() as stack:
        warm = await _begin(child, stack, warming)
        before = await _settled(child)
        waiting = await _begin(child, stack, requests)
        after = await _settled(child)
        still = sum(not one.done() for one in waiting)
        ended = [one.result() for one in waiting if one.done() and one.result() != OK]
        for one in [*waiting, *warm]:
            one.cancel()
        await asyncio.gather(*waiting, *warm, return_exceptions=True)
    return (after - before) / max(1, still), still, ended


async def _begin(child: Child, stack: AsyncExitStack, requests: Sequence[bytes]) -> list[asyncio.Task[str]]:
    """Make the calls, each on a connection of its own that is opened just before: one that says nothing for long is closed."""
    begun: list[asyncio.Task[str]] = []
    for batch in (requests[place : place + BATCH] for place in range(0, len(requests), BATCH)):
        connections = await stack.enter_async_context(connected(child.address, len(batch)))
        begun += [asyncio.create_task(_exchange(*pair)) for pair in zip(connections, batch, strict=True)]
        await asyncio.sleep(BATCH_SECONDS)
    return begun


async def _exchange(connection: Connection, request: bytes) -> str:
    """Make a call; gives its status, and where that isn't 200, what was said."""
    try:
        answer = await connection.exchange(request)
    except OSError as error:
        return repr(error)
    return OK if answer.status == 200 else f"{answer.status} {answer.body.decode(errors='replace')}"


async def _settled(child: Child) -> int:
    """The process's memory in bytes, once it has stopped growing and the process has come to rest.

    Raises:
        RuntimeError: it grows, or works, on and on.
    """
    memory, cpu = child.memory_bytes(), child.cpu_seconds()
    for _ in range(MOST_LOOKS):
        await asyncio.sleep(POLL_SECONDS)
        last_memory, last_cpu = memory, cpu
        memory, cpu = child.memory_bytes(), child.cpu_seconds()
        if abs(memory - last_memory) <= STEADY * memory and cpu - last_cpu < POLL_SECONDS / 4:
            return memory
    message = f"{child.log.stem} doesn't come to rest"
    raise RuntimeError(message)
