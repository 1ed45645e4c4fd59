"""Opening the state: what is made, what is refused, and what a refusal says."""

from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from app.administration import Administration
from app.domain import TokenKind, TokenValue
from app.errors import StartRefused
from app.opening import open_database, open_state
from app.settings import Environment, Settings
from app.storage import reading, writing
from app.storage.migrate import newest_schema, schema_of
from app.vault import NewToken
from tests.rig import settings_for

KEYS = "k1:" + "A" * 43 + "="
OTHER_KEYS = "k1:" + "B" * 43 + "="


async def add_token(settings: Settings, name: str = "shop") -> None:
    """Have a token sealed in the state."""
    async with open_state(settings) as (engine, keyring):
        token = NewToken(name, TokenKind.ACCOUNT, TokenValue(f"value-of-token-{name}"))
        await Administration(engine, keyring, "test:test").add_token(token)


async def tokens(settings: Settings) -> list[str]:
    """The tokens' names."""
    async with open_state(settings) as (engine, keyring):
        return [row.token.name for row in await Administration(engine, keyring, "test:test").tokens()]


async def refusal(settings: Settings) -> str:
    """The one line with which the state can't be opened."""
    with pytest.raises(StartRefused) as refused:
        async with open_state(settings):
            pass
    # aiosqlite doesn't wait for the thread of a connection that couldn't be opened, which then fails if the loop is gone.
    while any("_connection_worker_thread" in thread.name for thread in threading.enumerate()):
        await asyncio.sleep(0.001)
    return str(refused.value)


def names_in(folder: Path) -> list[str]:
    """What a folder holds."""
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_everything_is_made_on_the_first_start(tmp_path: Path) -> None:
    """A state folder that isn't there is made, its owner's alone, with a database of the newest schema and a key."""
    folder = tmp_path / "new" / "state"

    async with open_state(settings_for(folder)) as (engine, _):
        schema = await schema_of(engine)

    assert schema == newest_schema()
    assert mode(folder) == 0o700
    assert mode(folder / "master.keys") == 0o600
    assert (folder / "gateway.db").is_file()


async def test_the_state_is_there_the_next_time(tmp_path: Path) -> None:
    """What one process put into the state, the next one finds."""
    await add_token(settings_for(tmp_path))

    assert await tokens(settings_for(tmp_path)) == ["shop"]


async def test_the_database_opens_without_keys(tmp_path: Path) -> None:
    """Who only reads the record needs no master key, and none is made."""
    async with open_database(settings_for(tmp_path, environment=Environment.PRODUCTION)) as engine, reading(engine) as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM tokens")).scalar_one() == 0

    assert not (tmp_path / "master.keys").exists()


@pytest.mark.parametrize("path", ["state?dir", "state#dir", "state%20dir", "state dir", "état"])
async def test_a_state_folder_may_have_any_name(tmp_path: Path, path: str) -> None:
    """The database lies in the state folder, whatever characters its name has."""
    async with open_database(settings_for(tmp_path / path)):
        pass

    assert names_in(tmp_path) == [path]
    assert (tmp_path / path / "gateway.db").is_file()


async def test_the_database_may_lie_elsewhere(tmp_path: Path) -> None:
    """GATEWAY_DATABASE_URL puts the database into another file."""
    (tmp_path / "else").mkdir()
    settings = settings_for(tmp_path / "state", database_url=f"sqlite+aiosqlite:///{tmp_path}/else/x.db")
    await add_token(settings)

    assert (tmp_path / "else" / "x.db").is_file()
    assert names_in(tmp_path / "state") == ["master.keys"]


@pytest.mark.parametrize("given", [{}, {"master_keys_file": "elsewhere.keys"}])
async def test_production_makes_no_key(tmp_path: Path, given: dict[str, Any]) -> None:
    """In production a missing master key stops the start."""
    message = await refusal(settings_for(tmp_path / "state", environment=Environment.PRODUCTION, **given))

    assert message.startswith("GATEWAY_MASTER_KEYS: set it, or GATEWAY_MASTER_KEYS_FILE: ")
    assert not (tmp_path / "state" / "master.keys").exists()


async def test_production_takes_a_key(tmp_path: Path) -> None:
    """With a key in the variable production starts, and no key file is made."""
    settings = settings_for(tmp_path, environment=Environment.PRODUCTION, master_keys=KEYS)
    await add_token(settings)

    assert await tokens(settings) == ["shop"]
    assert not (tmp_path / "master.keys").exists()


async def test_a_named_key_file_is_never_made(tmp_path: Path) -> None:
    """Who names a key file means one that is there: a slip in its path doesn't make a new key."""
    path = tmp_path / "keys"

    assert str(path) in await refusal(settings_for(tmp_path, master_keys_file=path))
    assert not path.exists()


async def test_a_named_key_file_is_read(tmp_path: Path) -> None:
    """GATEWAY_MASTER_KEYS_FILE holds what the variable would."""
    (tmp_path / "keys").write_text(KEYS + "\n", encoding="utf-8")
    await add_token(settings_for(tmp_path / "state", master_keys_file=tmp_path / "keys"))

    assert await tokens(settings_for(tmp_path / "state", master_keys=KEYS)) == ["shop"]


async def test_a_lost_key_isnt_replaced(tmp_path: Path) -> None:
    """Beside a database that holds secrets no new key is made: it would open nothing, and hide the loss."""
    await add_token(settings_for(tmp_path))
    (tmp_path / "master.keys").unlink()

    assert "there is no master key at" in await refusal(settings_for(tmp_path))
    assert not (tmp_path / "master.keys").exists()


async def test_wrong_keys_stop_the_start(tmp_path: Path) -> None:
    """A variable that holds no keys is named, and not shown."""
    message = await refusal(settings_for(tmp_path, master_keys="k1:sesame"))

    assert message == "GATEWAY_MASTER_KEYS: entry 1 should be `id:` and 32 bytes in base64, each id once"


async def test_a_token_cant_be_added_with_another_key(tmp_path: Path) -> None:
    """A key that doesn't open what is there stops the start of a change in one line that names the variable."""
    await add_token(settings_for(tmp_path, master_keys=KEYS))

    with pytest.raises(StartRefused, match="GATEWAY_MASTER_KEYS: "):
        await add_token(settings_for(tmp_path, master_keys=OTHER_KEYS), "store")

    assert await tokens(settings_for(tmp_path, master_keys=KEYS)) == ["shop"]


async def test_a_state_folder_that_cant_be_made(tmp_path: Path) -> None:
    """A file in the state folder's place is told by the variable and the path."""
    (tmp_path / "state").write_text("", encoding="utf-8")

    message = await refusal(settings_for(tmp_path / "state"))

    assert message.startswith(f"GATEWAY_STATE_DIR: {tmp_path / 'state'} can't be made: ")
    assert message.isprintable()


@pytest.mark.parametrize("content", [b"this is no database, but it is long enough to be taken for one" * 100, None])
async def test_a_database_that_cant_be_used(tmp_path: Path, content: bytes | None) -> None:
    """A file that is no database, and a folder in its place, stop the start in one line that names the variable."""
    if content is None:
        (tmp_path / "gateway.db").mkdir()
    else:
        (tmp_path / "gateway.db").write_bytes(content)

    message = await refusal(settings_for(tmp_path))

    assert message.startswith("GATEWAY_DATABASE_URL: ")
    assert message.isprintable()


async def test_a_database_in_no_folder(tmp_path: Path) -> None:
    """A database whose folder isn't there stops the start in one line that names the variable."""
    message = await refusal(settings_for(tmp_path, database_url=f"sqlite+aiosqlite:///{tmp_path}/none/x.db"))

    assert message.startswith("GATEWAY_DATABASE_URL: ")
    assert message.isprintable()


async def test_a_newer_database_stops_the_start(tmp_path: Path) -> None:
    """A database that a newer version made is left alone."""
    async with open_database(settings_for(tmp_path)) as engine, writing(engine) as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        await connection.exec_driver_sql("UPDATE schema_needs SET revision = '9999'")

    assert "it was made by a newer one" in await refusal(settings_for(tmp_path))
