"""The command: runs the benchmarks named, or all but the long, prints each figure beside its bound, and exits with 1 if one is missed."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import uvloop

from app.telemetry import configure_logs
from benchmarks import (
    auditing,
    authentication,
    contention,
    fairness,
    following,
    history,
    jobs,
    latency,
    memory,
    merging,
    pacing,
    peers,
    queue_cost,
    recording,
    refusals,
    replicas,
    tokens,
)
from benchmarks.figures import Report
from benchmarks.machine import describe_machine, measure_noise, noise_line
from benchmarks.results import APART, merged
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.summary import summary

RESULTS = Path(__file__).parent / "results.json"
BENCHMARKS: dict[str, Callable[[Scale], Awaitable[Report]]] = {
    "pacing": pacing.measure,
    "peers": peers.measure,
    "refusals": refusals.measure,
    "tokens": tokens.measure,
    "contention": contention.measure,
    "fairness": fairness.measure,
    "queue": queue_cost.measure,
    "authentication": authentication.measure,
    "memory": memory.measure,
    "merging": merging.measure,
    "jobs": jobs.measure,
    "following": following.measure,
    "replicas": replicas.measure,
    "latency": latency.measure,
    "auditing": auditing.measure,
    "recording": recording.measure,
    "history": history.measure,
}
WHOLE = [name for name in BENCHMARKS if name not in APART]
PINNING = frozenset({"pacing", "recording", "refusals", "tokens"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; gives the exit status."""
    asked = _parser().parse_args(arguments)
    configure_logs("ERROR", as_json=False)
    names = [name for name in BENCHMARKS if name in asked.names] or WHOLE
    scale = QUICK if asked.quick else FULL
    machine, before = describe_machine(), measure_noise(scale.noise)
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(noise_line("before", before), end="\n\n", flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reports = runner.run(_run(names, scale))
    after = measure_noise(scale.noise)
    print(noise_line("after", after), end="\n\n")
    print(summary(reports), end="\n\n")
    conditions = {"machine": machine, "noise": {"before": before, "after": after}, "quick": asked.quick}
    if asked.output:
        _write(asked.output, merged({}, conditions, reports))
    elif not asked.quick and (names == WHOLE or APART.issuperset(names)):
        _write(RESULTS, merged(json.loads(RESULTS.read_text(encoding="utf-8")), conditions, reports))
    return _conclude(reports.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_name, help=f"{', '.join(BENCHMARKS)}; without a name, all but {', '.join(APART)}"
    )
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it works; the figures mean little")
    parser.add_argument("--output", type=Path, help="where to write the results; a whole run writes them to benchmarks/results.json")
    return parser


def _name(text: str) -> str:
    if text not in BENCHMARKS:
        message = f"{text!r} is none of {', '.join(BENCHMARKS)}"
        raise argparse.ArgumentTypeError(message)
    return text


async def _run(names: Sequence[str], scale: Scale) -> dict[str, Report]:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that the processes are stopped then too
    reports: dict[str, Report] = {}
    # Only where the figures mean little may benchmarks go at the same time, and never two that pin processes to cores.
    chains = [names] if scale.binding else [[name for name in names if (name in PINNING) is pins] for pins in (True, False)]
    async with asyncio.TaskGroup() as group:
        for chain in chains:
            group.create_task(_run_chain(chain, scale, reports))
    return {name: reports[name] for name in names}


async def _run_chain(names: Sequence[str], scale: Scale, reports: dict[str, Report]) -> None:
    for name in names:
        began = time.monotonic()
        reports[name] = await BENCHMARKS[name](scale)
        print(f"{reports[name].text()}  ({time.monotonic() - began:.0f} s)\n", flush=True)


def _write(output: Path, results: Mapping[str, object]) -> None:
    output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _conclude(reports: Iterable[Report]) -> int:
    missed = sum(report.missed for report in reports)
    print(f"{missed} bounds missed" if missed else "every bound met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
