"""Records a second on one core, each on disk before it counts, beside the same records committed one by one through the ORM.

All run in one process (`commits`) on one core, in turns, into one database on the disk of the temporary folder. 64 calls are under way
at once; each gives its four records to the writer as the gateway does, and waits for the two that the gateway waits for. The ORM has 64
clients too, each of which waits for its record's commit. The records are made before.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.commits import AT_ONCE, GATEWAY, ONE_BY_ONE, ORM, RESULT, Turn
from benchmarks.cores import apart, placement
from benchmarks.figures import Figure, Report
from benchmarks.journeys import RECORDS_OF_CALL
from benchmarks.processes import free_address, spawned
from benchmarks.scale import Scale

__all__ = ["measure"]

LEAST_RATIO = 50


async def measure(scale: Scale) -> Report:
    """Measure it. A first turn of each way warms up; it is not counted."""
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-benchmarks-") as name:
        folder = Path(name)
        counts = [str(one) for one in (scale.alternations, scale.recorded_calls, scale.commits)]
        child = spawned(["-m", "benchmarks.commits", str(folder), *counts], free_address(), folder / "commits.log")
        with child as process, apart(process):
            await process.ended()
        found = json.loads((folder / RESULT).read_text(encoding="ascii"))
    return _report({way: turns[1:] for way, turns in found.items()}, scale)


def _report(found: Mapping[str, Sequence[Turn]], scale: Scale) -> Report:
    one_by_one = statistics.median(_rates(found[ONE_BY_ONE]))
    beside = f"against a single client of the ORM's: {_ratio(found, ONE_BY_ONE):.0f}"
    figures = [
        Figure("the gateway, chained and durable, median", statistics.median(_rates(found[GATEWAY])), "/s"),
        Figure(f"the ORM, a commit each, {AT_ONCE} at once, median", statistics.median(_rates(found[ORM])), "/s"),
        Figure("the ORM, a commit each, one after the other, median", one_by_one, "/s"),
        Figure(f"ratio, {AT_ONCE} at once, median", _ratio(found, ORM), "", scale.at_least(LEAST_RATIO), beside),
        Figure("the gateway's CPU time a record, median", statistics.median(_costs(found[GATEWAY])), "us"),
    ]
    records = RECORDS_OF_CALL * scale.recorded_calls
    counted = f"{len(found[GATEWAY])} turns of each way: {records:,} records by the gateway, {scale.commits:,} by the ORM"
    details = {way: {"rates": [round(rate, 1) for rate in _rates(turns)]} for way, turns in found.items()}
    return Report(
        "recording: records a second, on one core", figures, [counted, placement("the writing process", "the benchmark")], details
    )


def _ratio(found: Mapping[str, Sequence[Turn]], beside: str) -> float:
    """How many records the gateway writes in the time of one: the median of neighbouring turns."""
    pairs = zip(_rates(found[GATEWAY]), _rates(found[beside]), strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def _rates(turns: Sequence[Turn]) -> list[float]:
    return [records / seconds for records, seconds, _ in turns]


def _costs(turns: Sequence[Turn]) -> list[float]:
    """CPU time a record, in µs."""
    return [1_000_000 * cpu / records for records, _, cpu in turns]
