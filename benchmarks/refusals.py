"""Local refusals a second on one core: known callers' bad calls, each durably on record, beside a bare FastAPI route that refuses likewise.

Both servers run on one core, the clients on another, if there are two. They take turns, so that a noisy moment hits both.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare import bared
from benchmarks.client import Connection, connected
from benchmarks.cores import apart, placement
from benchmarks.figures import Bound, Figure, Report
from benchmarks.processes import Child
from benchmarks.scale import Scale
from benchmarks.stage import Cast, Stage, opened

__all__ = ["measure"]

REFUSED = 400


@dataclass(frozen=True, slots=True)
class Turn:
    """What one server did in its turn: refusals, in so many seconds, and what share of a core it and its clients used (0 to 1)."""

    refusals: int
    seconds: float
    server_share: float
    client_share: float

    @property
    def rate(self) -> float:
        """Refusals a second."""
        return self.refusals / self.seconds


async def measure(scale: Scale) -> Report:
    """Measure it. A first turn of each warms up; it is not counted.

    Raises:
        RuntimeError: an answer was no refusal.
    """
    gateway: list[Turn] = []
    theirs: list[Turn] = []
    async with opened(Cast(tokens=["shared"])) as stage:
        with tempfile.TemporaryDirectory() as folder, bared(Path(folder)) as bare, apart(stage.gateway, bare, beside=stage.simulator):
            await bare.ready("/")
            before, request = _refusals_on_record(stage), stage.call(None, "")
            for _ in range(scale.alternations + 1):
                gateway.append(await _turn(stage.gateway, request, scale))
                theirs.append(await _turn(bare, request, scale))
        recorded = _refusals_on_record(stage) - before
    return _report(gateway, theirs, recorded, scale)


async def _turn(server: Child, request: bytes, scale: Scale) -> Turn:
    async with connected(server.address, scale.connections) as connections:
        began, cpu, own = time.monotonic(), server.cpu_seconds(), time.process_time()
        counts = await asyncio.gather(*(_refuse(one, request, began + scale.refusing) for one in connections))
        took = time.monotonic() - began
        return Turn(sum(counts), took, (server.cpu_seconds() - cpu) / took, (time.process_time() - own) / took)


async def _refuse(connection: Connection, request: bytes, until: float) -> int:
    count = 0
    while time.monotonic() < until:
        answer = await connection.exchange(request)
        if answer.status != REFUSED:
            message = f"a bad call was answered {answer.status}: {answer.body.decode(errors='replace')}"
            raise RuntimeError(message)
        count += 1
    return count


def _refusals_on_record(stage: Stage) -> int:
    with closing(sqlite3.connect(f"file:{stage.state_dir / 'gateway.db'}?mode=ro", uri=True)) as database:
        query = "SELECT count(*) FROM audit_records WHERE json_extract(body, '$.name') = 'call:refused'"
        return int(database.execute(query).fetchone()[0])


def _report(gateway: list[Turn], bare: list[Turn], recorded: int, scale: Scale) -> Report:
    answered = sum(turn.refusals for turn in gateway)
    counted, measured = gateway[1:], bare[1:]
    ratio = statistics.median(ours.rate / theirs.rate for ours, theirs in zip(counted, measured, strict=True))
    figures = [
        Figure("the gateway, each on record, median", statistics.median(turn.rate for turn in counted), "/s"),
        Figure("a bare FastAPI route, median", statistics.median(turn.rate for turn in measured), "/s"),
        Figure("ratio, median", ratio, "", scale.at_least(0.5)),
        Figure("share of the refusals that are on record", recorded / answered, "", Bound("≥", 1)),
    ]
    remarks = [
        f"{len(counted)} turns of each; {answered} refusals answered by the gateway, warming up included, {recorded} on record",
        placement("gateway and bare route", "clients"),
    ]
    if max(turn.client_share for turn in measured) > 0.9:
        remarks.append("the clients used over 90 % of their core: what the bare route can do may be more")
    details = {"gateway": _details(counted), "bare": _details(measured)}
    return Report("refusals: local refusals a second, on one core", figures, remarks, details)


def _details(turns: list[Turn]) -> dict[str, list[float]]:
    return {
        "rates": [round(turn.rate, 1) for turn in turns],
        "server_core_share": [round(turn.server_share, 3) for turn in turns],
        "client_core_share": [round(turn.client_share, 3) for turn in turns],
    }
