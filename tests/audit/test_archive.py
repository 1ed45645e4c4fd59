"""The archive: where it can't be written, nothing is removed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.retention import ArchiveUnusable
from tests.audit.past import Past, ago, archived, call, days_ago, listed, past
from tests.limits import no_file_larger_than

NOTHING_IS_MADE_IN = Path("/proc")


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[Past]:
    """A state with one old chain."""
    async with past(tmp_path / "state") as opened:
        yield opened


async def write_much(house: Past) -> str:
    """An old chain whose archive takes many kilobytes."""
    async with house.ledger() as ledger:
        with days_ago(30):
            await ledger.append([call(*(uuid.uuid4().hex for _ in range(10))) for _ in range(400)])
            await ledger.checkpoint()
        await ledger.aclose()
    return ledger.chain


async def assert_nothing_went(house: Past, chain: str) -> None:
    """The whole chain is there, and nothing says that it isn't."""
    assert await house.all(f"SELECT count(*) FROM audit_records WHERE chain = '{chain}'") == [401]  # noqa: S608 - ours
    assert await house.all("SELECT count(*) FROM audit_tombstones") == [0]
    assert await house.all("SELECT count(*) FROM audit_records WHERE name = 'audit:pruned'") == [0]
    house.assert_proven()


def missing(folder: Path) -> Path:
    """A folder that isn't there."""
    return folder / "nowhere"


def no_folder(folder: Path) -> Path:
    """A file where the folder should be."""
    (folder / "file").touch()
    return folder / "file"


def closed(_: Path) -> Path:
    """A folder in which no file can be made."""
    return NOTHING_IS_MADE_IN


@pytest.mark.parametrize("made", [missing, no_folder, closed])
async def test_without_a_folder_to_write_to_nothing_is_removed(house: Past, tmp_path: Path, made: object) -> None:
    """A folder that is missing, is none or takes no files: refused, and the record is whole."""
    chain = await write_much(house)
    with pytest.raises(ArchiveUnusable):
        await house.prune(20, made(tmp_path))  # type: ignore[operator]

    await assert_nothing_went(house, chain)


async def test_on_a_full_disk_nothing_is_removed(house: Past, tmp_path: Path) -> None:
    """What was written of the archive goes, the record stays whole; with room again the prune goes through."""
    chain = await write_much(house)
    (folder := tmp_path / "archive").mkdir()
    async with house.retention(folder) as retention:
        plan = await retention.plan(ago(20))
        with no_file_larger_than(16_384), pytest.raises(ArchiveUnusable, match="File too large"):
            await retention.prune(plan)
        left = listed(folder)
        await assert_nothing_went(house, chain)
        await retention.prune(plan)

    assert left == []
    assert listed(folder) == [f"{chain}-1-401.jsonl.gz"]
    assert len(archived(folder)[f"{chain}-1-401.jsonl.gz"]) == 401


async def test_an_archive_is_never_overwritten(house: Past, tmp_path: Path) -> None:
    """A file of that name with other content, such as another gateway's, stays as it is, and nothing is removed."""
    chain = await write_much(house)
    (folder := tmp_path / "archive").mkdir()
    other = folder / f"{chain}-1-401.jsonl.gz"
    other.write_bytes(b"somebody else's")
    with pytest.raises(ArchiveUnusable, match="other content"):
        await house.prune(20, folder)

    assert other.read_bytes() == b"somebody else's"
    assert listed(folder) == [other.name]
    await assert_nothing_went(house, chain)
