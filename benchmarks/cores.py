"""Which process runs on which core: what is measured on the last one alone, clients and simulator on the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processes import Child

__all__ = ["apart", "measured_core", "placement"]


def measured_core() -> int:
    """The core of what is measured: the last that this process may use."""
    return max(os.sched_getaffinity(0))


@contextmanager
def apart(*measured: Child, beside: Child | None = None) -> Iterator[None]:
    """While the context lasts, the measured processes run on one core, and this process and the one beside on the others.

    Where there is only one core, all share it.
    """
    cores = os.sched_getaffinity(0)
    others = cores - {max(cores)} or cores
    for child in measured:
        child.pin({max(cores)})
    if beside:
        beside.pin(others)
    os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for child in (*measured, *([beside] if beside else [])):
            child.pin(cores)


def placement(measured: str, beside: str) -> str:
    """A remark that says what was pinned where."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        return "only one core: all processes shared it"
    return f"pinned: {measured} on core {max(cores)}; {beside} on {', '.join(map(str, sorted(cores - {max(cores)})))}"
