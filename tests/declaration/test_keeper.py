"""Keeping to the configuration file: which changes are seen, and what becomes of a wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.declaration import Keeper
from app.storage import reading, writing
from app.vault import TokenStore
from tests.rig import until

from .files import CALLERS, CANARY, KEYRING, OPERATIONS, TOKENS, Files

APPLIED = "the configuration file was applied"
WRONG = "the configuration file is wrong; going on as before"
FAILED = "the configuration file can't be applied; going on as before"


@dataclass
class Watched:
    """A keeper at work: its log, and the sign to read again."""

    engine: AsyncEngine
    hangup: asyncio.Event
    log: list[EventDict]

    async def events(self, count: int) -> list[str]:
        """The log's events, once there are so many since the watching began."""

        async def logged() -> bool:
            return len(self.log) >= count

        await until(logged)
        return [str(line["event"]) for line in self.log]

    async def tokens(self) -> dict[str, int]:
        """The tokens' rates, or 0 where one is disabled."""
        async with reading(self.engine) as connection:
            rows = await TokenStore(KEYRING).all(connection)
        return {row.token.name: row.token.rate if row.token.enabled else 0 for row in rows}


@pytest.fixture
def log() -> Iterator[list[EventDict]]:
    """What is logged."""
    with capture_logs() as lines:
        yield lines


@pytest_asyncio.fixture
async def watched(engine: AsyncEngine, files: Files, log: list[EventDict]) -> AsyncIterator[Watched]:
    """A keeper that has applied the file once, and watches."""
    keeper, hangup = Keeper(files.path, engine, KEYRING, {}, OPERATIONS), asyncio.Event()
    await keeper.apply()
    log.clear()
    async with keeper.watching(hangup):
        yield Watched(engine, hangup, log)


def faster(rate: int) -> str:
    """The token with another rate."""
    return (TOKENS + CALLERS).replace("kind: account", f"kind: account, rate: {rate}")


async def test_a_changed_file_is_applied(watched: Watched, files: Files) -> None:
    """The change takes effect without any sign, once, and is logged with what it changed."""
    files.declare(faster(5))

    events = await watched.events(1)

    assert events == [APPLIED]
    assert {"tokens": 1, "callers": 1, "changes": {"token:changed": 1}}.items() <= watched.log[0].items()
    assert await watched.tokens() == {"shop": 5}


async def test_a_hangup_has_the_file_read_again(watched: Watched) -> None:
    """Also where nothing has changed; each sign counts once."""
    watched.hangup.set()
    await watched.events(1)
    watched.hangup.set()

    assert await watched.events(2) == [APPLIED, APPLIED]
    assert [line["changes"] for line in watched.log] == [{}, {}]


async def test_a_wrong_change_keeps_what_was(watched: Watched, files: Files) -> None:
    """It is logged once, as an error that says why, and the next right one is applied."""
    files.declare(faster(0))
    await watched.events(1)
    kept = await watched.tokens()
    files.declare(faster(7))

    events = await watched.events(2)

    assert events == [WRONG, APPLIED]
    reason = f"GATEWAY_CONFIG_FILE: {files.path}:3: tokens[0].rate: should be greater than or equal to 1"
    assert (watched.log[0]["log_level"], watched.log[0]["reason"]) == ("error", reason)
    assert (kept, await watched.tokens()) == ({"shop": 2}, {"shop": 7})


async def test_an_emptied_file_keeps_what_was(watched: Watched, files: Files) -> None:
    """A file that was cut off to nothing isn't taken for one that declares nothing."""
    files.declare("")

    assert await watched.events(1) == [WRONG]
    assert await watched.tokens() == {"shop": 2}


async def test_a_changed_secret_is_a_change(watched: Watched, files: Files) -> None:
    """A value's file is watched as the configuration file is."""
    files.write(shop__value=f"{CANARY}2")

    assert await watched.events(1) == [APPLIED]
    assert watched.log[0]["changes"] == {"token:rotated": 1}


async def test_a_secret_that_vanishes_is_a_wrong_change(watched: Watched, files: Files) -> None:
    """The token goes on with the value that it has, and with its file's next one once that is there."""
    (files.folder / "shop.value").unlink()
    await watched.events(1)
    kept = await watched.tokens()
    files.write(shop__value=f"{CANARY}2")

    assert await watched.events(2) == [WRONG, APPLIED]
    assert str(watched.log[0]["reason"]).endswith("tokens[0].value.file: the file can't be read: No such file or directory")
    assert kept == {"shop": 2}
    assert watched.log[1]["changes"] == {"token:rotated": 1}


async def test_a_swapped_link_is_a_change(engine: AsyncEngine, tmp_path_factory: pytest.TempPathFactory, log: list[Any]) -> None:
    """Kubernetes gives a volume's new content by swapping one link of the path, with no file written."""
    volume: Path = tmp_path_factory.mktemp("volume")
    for name, rate in (("..1", 3), ("..2", 4)):
        (volume / name).mkdir()
        (volume / name / "gateway.yaml").write_text(faster(rate).partition("callers")[0], encoding="utf-8")
        (volume / name / "shop.value").write_text(f"{CANARY}1", encoding="utf-8")
    (volume / "..data").symlink_to("..1")
    for name in ("gateway.yaml", "shop.value"):
        (volume / name).symlink_to(f"..data/{name}")
    keeper, hangup = Keeper(volume / "gateway.yaml", engine, KEYRING, {}, OPERATIONS), asyncio.Event()
    await keeper.apply()
    log.clear()

    async with keeper.watching(hangup):
        (volume / "..next").symlink_to("..2")
        (volume / "..next").rename(volume / "..data")
        watched = Watched(engine, hangup, log)
        await watched.events(1)

    assert await watched.tokens() == {"shop": 4}


async def test_a_database_that_fails_is_tried_again(watched: Watched, files: Files) -> None:
    """What couldn't be written for the database's sake is written once it can be, without another change."""
    async with writing(watched.engine) as connection:
        await connection.exec_driver_sql("ALTER TABLE revision RENAME TO revision_aside")
    files.declare(faster(9))
    first = (await watched.events(1))[0]
    async with writing(watched.engine) as connection:
        await connection.exec_driver_sql("ALTER TABLE revision_aside RENAME TO revision")

    async def applied() -> bool:
        return bool(watched.log[-1]["event"] == APPLIED)

    await until(applied)
    assert first == FAILED
    assert await watched.tokens() == {"shop": 9}
