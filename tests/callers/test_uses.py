"""When keys were used last."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import Authentication, Directory, KeyUses, Presented
from app.storage import current_revision, reading
from tests.rig import until
from tests.storage.database import Hand

from .database import loaded, shown, with_caller

EARLY, LATE = 1_800_000_000.0, 1_800_000_060.5
EARLY_TEXT, LATE_TEXT = "2027-01-15T08:00:00.000000+00:00", "2027-01-15T08:01:00.500000+00:00"


class Clock:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self.now = EARLY

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


async def use(directory: Directory, uses: KeyUses, key: str) -> None:
    """Prove a caller by its key."""
    await Authentication(directory, note_use=uses.note).authenticate(Presented(x_api_token=[key]))


async def last_used(engine: AsyncEngine) -> str | None:
    """What operators see."""
    return (await shown(engine)).keys[0].last_used_at


async def test_the_last_use_is_written(engine: AsyncEngine) -> None:
    """Of several uses the last one is written, and none before its time."""
    _, key = await with_caller(engine)
    directory, clock = await loaded(engine), Clock()
    uses = KeyUses(engine, clock)
    await use(directory, uses, key.reveal())
    clock.now = LATE
    await use(directory, uses, key.reveal())
    before = await last_used(engine)
    await uses.write()

    assert before is None
    assert await last_used(engine) == LATE_TEXT


async def test_a_later_use_stays(engine: AsyncEngine) -> None:
    """A use that is written late doesn't hide a later one."""
    _, key = await with_caller(engine)
    clock = Clock()
    early, late = KeyUses(engine, clock), KeyUses(engine, lambda: LATE)
    early.note(key.id)
    late.note(key.id)
    await late.write()
    await early.write()

    assert await last_used(engine) == LATE_TEXT


async def test_writing_uses_is_no_change(engine: AsyncEngine) -> None:
    """No server reads its callers again because a key was used."""
    _, key = await with_caller(engine)
    async with reading(engine) as connection:
        before = await current_revision(connection)
    uses = KeyUses(engine)
    uses.note(key.id)
    uses.note("a-key-that-is-gone")
    await uses.write()

    async with reading(engine) as connection:
        assert await current_revision(connection) == before


async def test_uses_that_cant_be_written_are_kept(engine: AsyncEngine) -> None:
    """A failure hurts nobody, and the next attempt writes what was noted, with what came since."""
    _, key = await with_caller(engine)
    clock = Clock()
    uses = KeyUses(engine, clock)
    aside = Hand(engine)
    aside.execute("ALTER TABLE caller_keys RENAME TO caller_keys_aside")
    uses.note(key.id)
    await uses.write()
    aside.execute("ALTER TABLE caller_keys_aside RENAME TO caller_keys")
    aside.close()
    await uses.write()

    assert await last_used(engine) == EARLY_TEXT


async def test_uses_are_written_time_and_again(engine: AsyncEngine) -> None:
    """While the process runs, each use is written before long, the later ones too."""
    _, key = await with_caller(engine)
    clock = Clock()

    async def seen() -> bool:
        return await last_used(engine) == datetime.fromtimestamp(clock.now, UTC).isoformat(timespec="microseconds")

    async with KeyUses(engine, clock, every=0.01).kept() as uses:
        for clock.now in (EARLY, LATE):
            uses.note(key.id)
            await until(seen)

    assert await last_used(engine) == LATE_TEXT


async def test_a_use_while_another_is_written_isnt_lost(engine: AsyncEngine) -> None:
    """What is noted during a writing is written by the next."""
    _, key = await with_caller(engine)
    clock = Clock()
    uses = KeyUses(engine, clock)
    uses.note(key.id)
    first = asyncio.create_task(uses.write())
    await asyncio.sleep(0)
    clock.now = LATE
    uses.note(key.id)
    await first
    between = await last_used(engine)
    await uses.write()

    assert (between, await last_used(engine)) == (EARLY_TEXT, LATE_TEXT)


async def test_what_was_noted_is_written_at_the_end(engine: AsyncEngine) -> None:
    """A process that stops within the minute loses no use."""
    _, key = await with_caller(engine)
    async with KeyUses(engine, Clock()).kept() as uses:
        uses.note(key.id)
        before = await last_used(engine)

    assert before is None
    assert await last_used(engine) == EARLY_TEXT
