"""What `audit verify` names stays to be named, whatever the gateway itself does afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from app.audit import Ledger, Trusted
from app.audit.chain import GENESIS
from app.audit.recovery import Recovery
from app.audit.verification import Kind, verify
from app.storage import DatabaseThread
from app.storage.embedded_scan import scanning
from tests.audit.past import Past, call, days_ago, past

FIRST_DAY = 400.0

BEGINNING = [("append", 3), ("checkpoint", 0), ("change", 0), ("append", 2), ("checkpoint", 0)]
"""So that there is something which is sealed."""

steps = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["checkpoint", "restart", "crash", "recover", "change"]), st.just(0)),
    st.tuples(st.just("night"), st.integers(1, 60)),
    st.tuples(st.just("prune"), st.integers(0, int(FIRST_DAY))),
)
histories = st.lists(steps, max_size=8)

Edit = Callable[[sqlite3.Connection, int], Any]


def altered(connection: sqlite3.Connection, number: int) -> None:
    """Another body."""
    connection.execute("UPDATE audit_records SET body = replace(body, 'test:past', 'text:past') WHERE number = ?", (number,))


def unhashed(connection: sqlite3.Connection, number: int) -> None:
    """Another hash."""
    connection.execute("UPDATE audit_records SET hash = randomblob(32) WHERE number = ?", (number,))


def deleted(connection: sqlite3.Connection, number: int) -> None:
    """No record any more."""
    connection.execute("DELETE FROM audit_ids WHERE number = ?", (number,))
    connection.execute("DELETE FROM audit_records WHERE number = ?", (number,))


def rewritten(connection: sqlite3.Connection, number: int) -> None:
    """Another body, with all later hashes of its chain made anew."""
    altered(connection, number)
    last = GENESIS
    query = (
        "SELECT number, body, hash, seq FROM audit_records WHERE chain = (SELECT chain FROM audit_records WHERE number = ?) ORDER BY seq"
    )
    for place, body, stored, seq in connection.execute(query, (number,)).fetchall():
        last = hashlib.sha256(last + body.encode()).digest() if seq == 1 or last != GENESIS else stored
        connection.execute("UPDATE audit_records SET hash = ? WHERE number = ?", (last, place))


def unsealed(connection: sqlite3.Connection, number: int) -> None:
    """No checkpoint of its chain from its place on."""
    query = (
        "DELETE FROM audit_checkpoints WHERE (chain, 1) IN (SELECT chain, seq <= audit_checkpoints.seq FROM audit_records WHERE number = ?)"
    )
    connection.execute(query, (number,))


def both(connection: sqlite3.Connection, number: int) -> None:
    """Rewritten, and without the checkpoints that tell."""
    rewritten(connection, number)
    unsealed(connection, number)


def moved(connection: sqlite3.Connection, number: int) -> None:
    """At another number."""
    connection.execute("UPDATE audit_records SET number = 5000 WHERE number = ?", (number,))


EDITS: Sequence[Edit] = (altered, unhashed, deleted, rewritten, unsealed, both, moved)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which nothing happened yet."""

    async def make(folder: Path) -> None:
        async with past(folder):
            pass

    folder = tmp_path_factory.mktemp("empty") / "state"
    asyncio.run(make(folder))
    return folder


class Life:
    """What the gateway does with a state, at an age that only ever falls; all of it by the gateway's own code."""

    def __init__(self, house: Past, stack: AsyncExitStack) -> None:
        self._house = house
        self._stack = stack
        self._age = FIRST_DAY
        self._ledger: Ledger | None = None

    async def happen(self, history: Sequence[tuple[str, int]]) -> None:
        """Have it all happen."""
        for what, much in history:
            # A prune tells of itself as of today: so do its tombstones.
            with days_ago(self._age if what != "prune" else 0):
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

    async def recover(self, _: int) -> None:
        """A process ends what the dead left."""
        ledger = await self._writer()
        thread = DatabaseThread(self._house.engine)
        self._stack.push_async_callback(thread.aclose)
        await Recovery(thread, ledger, self._settled, alone=True).recover()

    async def change(self, _: int) -> None:
        """Put a change on record."""
        await self._house.change(self._age)

    async def night(self, much: int) -> None:
        """Let so many days pass."""
        self._age = max(self._age - much, 0)

    async def prune(self, much: int) -> None:
        """Remove what is older than so many days."""
        await self._house.prune(much)

    async def _settled(self) -> None:
        """Nothing is spooled."""

    async def _writer(self) -> Ledger:
        if self._ledger is None:
            self._ledger = await self._stack.enter_async_context(self._house.ledger())
        return self._ledger


def failures(house: Past) -> set[Kind]:
    """What `audit verify` names."""
    with scanning(house.database) as scan:
        return {one.kind for one in verify(scan, Trusted(house.signer.public)).findings if not one.kind.is_note}


def edit(house: Past, change: Edit, choice: int) -> None:
    """Change one of the records by hand."""
    with closing(sqlite3.connect(house.database)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        numbers = [number for (number,) in connection.execute("SELECT number FROM audit_records ORDER BY number")]
        assume(numbers)
        change(connection, numbers[choice % len(numbers)])


async def live(folder: Path, before: list[tuple[str, int]], change: Edit, choice: int, after: list[tuple[str, int]]) -> None:
    """Have it all happen, and the edit in the midst."""
    async with past(folder / "state") as house, AsyncExitStack() as stack:
        life = Life(house, stack)
        await life.happen([*BEGINNING, *before])
        assert failures(house) == set()
        edit(house, change, choice)
        found = failures(house)
        assume(found)
        event(f"{change.__name__}: {', '.join(sorted(found))}")
        await life.happen(after)

        assert failures(house)


@given(before=histories, change=st.sampled_from(EDITS), choice=st.integers(0, 999), after=histories)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_named_stays_to_be_named(
    empty: Path, before: list[tuple[str, int]], change: Edit, choice: int, after: list[tuple[str, int]]
) -> None:
    """No appending, sealing, changing, recovering or pruning takes the trace of an edit away, or signs it."""
    with TemporaryDirectory() as folder:
        shutil.copytree(empty, Path(folder) / "state")
        asyncio.run(live(Path(folder), before, change, choice, after))
