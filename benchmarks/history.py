"""Reading a long record: an order's records among 100,000 and among 10 million, and verifying a million and 10 million.

The databases are made by the product's own ledger, in the temporary folder: 10 million records take 12 GB. An order is looked up as `audit
list --order` does it, on a connection that is opened for it, once after the system was told to forget the file (`posix_fadvise`), and once
more; the two databases take turns. `audit verify` is the command itself, its start included.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from app.audit import AuditReader, Wanted
from app.storage import ReadingThread, open_engine
from benchmarks.figures import Bound, Figure, Report, percentile
from benchmarks.histories import RECORDS_OF_ORDER, History, kept
from benchmarks.processes import Child, free_address, spawned
from benchmarks.scale import Scale

__all__ = ["measure"]

PAGE = 50
POLL_SECONDS = 0.02
COLD, WARM = "not in memory", "in memory"

Times = dict[str, list[float]]
"""How long each lookup took, in ms: of what was not in the system's memory, and of what was."""


@dataclass(frozen=True, slots=True)
class Verification:
    """How one went: records, seconds, and the most memory that it held, in bytes."""

    records: int
    seconds: float
    peak: int

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


async def measure(scale: Scale) -> Report:
    """Make the databases and measure.

    Raises:
        RuntimeError: `audit verify` found something wrong, or an order has other records than were written.
    """
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-benchmarks-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            small = await stack.enter_async_context(kept(folder / "small"))
            await small.grow(scale.small_history)
            large = await stack.enter_async_context(kept(folder / "large"))
            began = time.monotonic()
            await large.grow(scale.middle_history)
            middle = await _verified(large)
            await large.grow(scale.large_history)
            made = time.monotonic() - began - middle.seconds
            found = await _looked_up({"small": small, "large": large}, scale.lookups)
            verified = [middle, await _verified(large)]
            size = large.path.stat().st_size
    remarks = [
        f"{scale.large_history:,} records, made in {made:.0f} s, take {size / 2**30:.1f} GiB; {scale.lookups:,} random orders in each",
        f"each order has {RECORDS_OF_ORDER} records, and its lookup opens a connection of its own; nothing was pinned",
    ]
    return Report("history: reading a long record", [*_lookup_figures(found, scale), *_verify_figures(verified, scale)], remarks)


async def _looked_up(histories: Mapping[str, History], count: int) -> dict[str, Times]:
    drawn = {name: random.Random(name).choices(history.orders(), k=count) for name, history in histories.items()}
    found: dict[str, Times] = {name: {COLD: [], WARM: []} for name in histories}
    for place in range(count):
        for name, history in histories.items():
            history.drop_cache()
            for memory in (COLD, WARM):
                found[name][memory].append(await _look_up(history, drawn[name][place]))
    return found


async def _look_up(history: History, order: int) -> float:
    """How long it takes, in ms, from the opening of the connection."""
    engine = open_engine(f"sqlite+aiosqlite:///{history.path}")
    began = time.perf_counter()
    thread = ReadingThread(engine)
    page = await AuditReader(thread).page(Wanted(order=str(order)), limit=PAGE)
    took = (time.perf_counter() - began) * 1_000
    await thread.aclose()
    await engine.dispose()
    if len(page.records) != RECORDS_OF_ORDER:
        message = f"order {order} has {len(page.records)} records, not {RECORDS_OF_ORDER}"
        raise RuntimeError(message)
    return took


async def _verified(history: History) -> Verification:
    folder = history.path.parent
    variables = {"GATEWAY_STATE_DIR": str(folder)}
    began = time.monotonic()
    with spawned(["-m", "app.cli", "audit", "verify"], free_address(), folder / "verify.log", variables) as process:
        peak = await _peak_until_end(process)
    return Verification(history.length, time.monotonic() - began, peak)


async def _peak_until_end(process: Child) -> int:
    """The most memory that it held.

    Raises:
        RuntimeError: it failed.
    """
    ending, peak = asyncio.create_task(process.ended()), 0
    while not ending.done():
        peak = max(peak, process.peak_memory_bytes())
        await asyncio.wait({ending}, timeout=POLL_SECONDS)
    await ending
    return peak


def _lookup_figures(found: Mapping[str, Times], scale: Scale) -> list[Figure]:
    figures = []
    for memory in (COLD, WARM):
        small, large = found["small"][memory], found["large"][memory]
        medians = percentile(small, 0.5), percentile(large, 0.5)
        figures += [
            Figure(f"an order among {scale.small_history:,}, {memory}, median", medians[0], "ms"),
            Figure(f"an order among {scale.large_history:,}, {memory}, median", medians[1], "ms"),
            Figure(f"an order among {scale.large_history:,}, {memory}, 99th percentile", percentile(large, 0.99), "ms", scale.at_most(50)),
            Figure(f"ratio of the medians, {memory}", medians[1] / medians[0], "", scale.at_most(1.5)),
        ]
    return figures


def _verify_figures(verified: Sequence[Verification], scale: Scale) -> list[Figure]:
    middle, large = verified
    return [
        Figure(f"audit verify, {large.records:,} records", large.rate, "/s", scale.at_least(100_000)),
        Figure(f"audit verify, {middle.records:,} records", middle.rate, "/s"),
        Figure(f"its peak of memory at {large.records:,}", large.peak / 2**20, "MiB"),
        Figure(f"the same against its peak at {middle.records:,}", large.peak / middle.peak, "", Bound("≤", 1.1)),
    ]
