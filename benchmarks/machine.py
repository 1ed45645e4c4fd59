"""The machine on which the figures were measured, and how evenly it ran."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Details, percentile

__all__ = ["describe_machine", "measure_noise", "noise_line"]

LOOP_TURNS = 200_000
PAGE = bytes(4096)


def describe_machine() -> Details:
    """CPU model, cores that may be used, versions, and the time in UTC."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def measure_noise(repetitions: int) -> Details:
    """How long the same work takes at different moments, in ms: a fixed loop of Python, and a page appended with fsync."""
    loops = [_ms(_loop) for _ in range(repetitions)]
    with tempfile.TemporaryFile() as file:

        def append() -> None:
            file.write(PAGE)
            file.flush()
            os.fsync(file.fileno())

        fsyncs = [_ms(append) for _ in range(repetitions)]
    return {
        "load_1_min": round(os.getloadavg()[0], 2),
        "loop_ms": {"min": min(loops), "median": round(statistics.median(loops), 3), "max": max(loops)},
        "fsync_ms": {"p50": percentile(fsyncs, 0.5), "p99": percentile(fsyncs, 0.99)},
    }


def noise_line(when: str, noise: Details) -> str:
    """The noise for people."""
    parts = (f"{name} {_shown(value)}" for name, value in noise.items())
    return f"noise {when}: {'; '.join(parts)}"


def _shown(value: object) -> str:
    return ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else str(value)


def _loop() -> None:
    total = 0
    for turn in range(LOOP_TURNS):
        total += turn


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round((time.perf_counter() - began) * 1_000, 3)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
