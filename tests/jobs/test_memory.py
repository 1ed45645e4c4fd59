from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.domain import Parameter
from app.jobbing import UNDER_WAY, JobRunner
from app.jobs.turn import PAGE_PARTS
from tests.jobs.rows import added, new_job
from tests.jobs.test_runner import Played, answered
from tests.storage.database import opened

FIRST = 10**15
MIB = 2**20


@contextmanager
def peak() -> Iterator[list[int]]:
    """How many bytes of Python's memory were in use at most beyond those at the beginning."""
    tracemalloc.start()
    found: list[int] = []
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


async def test_a_hundred_thousand_ids_cost_little_memory(database: str) -> None:
    """The rows are written and read in pages, and of a job in hand one page is in memory."""
    new = replace(new_job(range(FIRST, FIRST + 100_000)), parameter=Parameter("orderIds", 50))
    async with opened(database) as engine:
        with peak() as taking:
            await added(engine, new)
        played = Played()
        runner = JobRunner(engine, played, alone=True)
        with peak() as carrying:
            async with runner.kept():
                await played.under_way(UNDER_WAY)
                [run] = runner._runs.values()
                assert len(run.page) <= PAGE_PARTS
            played.end(answered)
            await runner.finish()

    assert taking[0] < 3 * MIB
    assert carrying[0] < 3 * MIB
