"""Any sequence of appends, checkpoints, restarts, crashes, changes and prunes leaves a record that is proven and complete."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.audit import Ledger
from tests.audit.past import Kept, Past, archived, call, days_ago, past

FIRST_DAY = 400.0

appends = st.tuples(st.just("append"), st.integers(1, 4))
checkpoints = st.tuples(st.just("checkpoint"), st.just(0))
restarts = st.tuples(st.just("restart"), st.just(0))
crashes = st.tuples(st.just("crash"), st.just(0))
changes = st.tuples(st.just("change"), st.just(0))
nights = st.tuples(st.just("night"), st.integers(1, 60))
prunes = st.tuples(st.just("prune"), st.integers(0, int(FIRST_DAY)))
histories = st.lists(st.one_of(appends, appends, checkpoints, restarts, crashes, changes, nights, prunes), min_size=3, max_size=25)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which nothing happened yet."""

    async def make(folder: Path) -> None:
        async with past(folder):
            pass

    folder = tmp_path_factory.mktemp("empty") / "state"
    asyncio.run(make(folder))
    return folder


class History:
    """What happens to a state, at an age that only ever falls."""

    def __init__(self, house: Past, archive: Path, stack: AsyncExitStack) -> None:
        self.kept = Kept()
        self._house = house
        self._archive = archive
        self._stack = stack
        self._age = FIRST_DAY
        self._ledger: Ledger | None = None

    async def happen(self, what: str, much: int) -> None:
        """Have the next thing happen."""
        with days_ago(self._age):
            await getattr(self, what)(much)

    async def append(self, much: int) -> None:
        """Write so many records."""
        await (await self._writer()).append([call(str(number)) for number in range(much)])

    async def checkpoint(self, _: int) -> None:
        """Seal the chain."""
        await (await self._writer()).checkpoint()

    async def restart(self, _: int) -> None:
        """End the process in good order."""
        await (await self._writer()).aclose()
        self._ledger = None

    async def crash(self, _: int) -> None:
        """End it without."""
        self._ledger = None

    async def change(self, _: int) -> None:
        """Put a change on record."""
        await self._house.change(self._age)

    async def night(self, much: int) -> None:
        """Let so many days pass; a process that lives says so."""
        if self._ledger:
            await self._ledger._thread.run(self._ledger._own.renew_lease)
        self._age = max(self._age - much, 0)

    async def prune(self, much: int) -> None:
        """Remove what is older than so many days."""
        pruning = await self._house.prune(much, self._archive)
        self._house.assert_proven()

        assert pruning.spared == []

    async def _writer(self) -> Ledger:
        if self._ledger is None:
            self._ledger = await self._stack.enter_async_context(self._house.ledger(self.kept))
        return self._ledger


async def live(folder: Path, history: list[tuple[str, int]]) -> None:
    """Have it all happen, and find every record that was written in the archive or still in the database."""
    archive = folder / "archive"
    archive.mkdir()
    async with past(folder / "state") as house, AsyncExitStack() as stack:
        lived = History(house, archive, stack)
        for what, much in history:
            await lived.happen(what, much)
        house.assert_proven()
        files = archived(archive)
        for chain, bodies in lived.kept.bodies.items():
            mine = {int(name.split("-")[-2]): lines for name, lines in files.items() if name.startswith(chain)}
            removed = [line for _, lines in sorted(mine.items()) for line in lines]
            left = await house.all(f"SELECT body FROM audit_records WHERE chain = '{chain}' ORDER BY seq")  # noqa: S608 - ours

            assert removed + left == bodies


@given(history=histories)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_stays_provable_and_complete(empty: Path, history: list[tuple[str, int]]) -> None:
    """Whenever what is removed: the rest follows from tombstones and checkpoints, and what went is in the archive, whole and in order."""
    with TemporaryDirectory() as folder:
        shutil.copytree(empty, Path(folder) / "state")
        asyncio.run(live(Path(folder), history))
