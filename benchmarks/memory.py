"""Memory for each waiting call, all included: what the gateway's process grows by while many calls wait over HTTP, for each of them.

A bare FastAPI handler that waits and watches for a hang-up is measured the same way. Both are warmed up by some calls before.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bare import bared
from benchmarks.client import connected, request_bytes
from benchmarks.figures import Bound, Figure, Report
from benchmarks.processes import Child
from benchmarks.scale import Scale
from benchmarks.stage import Cast, opened
from benchmarks.upstream import FIRST_ORDER

__all__ = ["measure", "open_files_for"]

WARMING = 20
POLL_SECONDS = 0.5
STEADY = 0.002
"""The share by which memory may still change between two looks, to count as settled."""
MOST_LOOKS = 60
LONG = 3600
SPARE_FILES = 200


async def measure(scale: Scale) -> Report:
    """Measure both, one after the other."""
    held = open_files_for(scale.held)
    ours, waiting = await _gateway(held)
    with tempfile.TemporaryDirectory() as folder, bared(Path(folder)) as bare:
        await bare.ready("/")
        request = request_bytes("PATCH", "/waiting", bare.address)
        theirs, _ = await _grown(bare, [request] * WARMING, [request] * held)
    figures = [
        Figure(
            "the gateway, for each waiting call",
            ours / 1024,
            "KiB",
            scale.at_most(36),
            f"a bare handler that waits: {theirs / 1024:.1f} KiB",
        ),
        Figure("a bare handler that waits, for each", theirs / 1024, "KiB"),
        Figure("share of the calls that were waiting when it was measured", waiting / held, "", Bound("≥", 0.97)),
    ]
    remarks = [f"{held:,} calls; by the processes' proportional set size, the kernel's own memory not included; nothing was pinned"]
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


async def _gateway(held: int) -> tuple[float, int]:
    depths = {"GATEWAY_LANE_DEPTH": str(2 * held), "GATEWAY_CALLER_DEPTH": str(2 * held), "GATEWAY_MAX_WAIT": str(LONG)}
    async with opened(Cast(tokens=["shared", "warming"], orders=held + WARMING, environment=depths)) as stage:
        orders = range(FIRST_ORDER, FIRST_ORDER + held)
        prefer = (b"Prefer: wait=600", f"Prefer: wait={LONG}".encode())
        calls = [stage.call("shared", f"orderIds={order}").replace(*prefer) for order in orders]
        warming = [stage.call("warming", f"orderIds={orders.stop + number}").replace(*prefer) for number in range(WARMING)]
        return await _grown(stage.gateway, warming, calls)


async def _grown(child: Child, warming: Sequence[bytes], requests: Sequence[bytes]) -> tuple[float, int]:
    """By how many bytes the process grew for each call that waits, and how many do, once it has settled."""
    async with connected(child.address, len(warming)) as first:
        warm = [asyncio.ensure_future(connection.exchange(request)) for connection, request in zip(first, warming, strict=True)]
        before = await _settled(child)
        async with connected(child.address, len(requests)) as connections:
            pairs = zip(connections, requests, strict=True)
            waiting = [asyncio.ensure_future(connection.exchange(request)) for connection, request in pairs]
            after = await _settled(child)
            still = sum(not one.done() for one in waiting)
            for one in [*waiting, *warm]:
                one.cancel()
            await asyncio.gather(*waiting, *warm, return_exceptions=True)
    return (after - before) / max(1, still), still


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
