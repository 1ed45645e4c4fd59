"""The rows of the tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain import Burst, Pacing, TokenKind, TokenValue
from app.errors import Conflict, NotFound, ParameterInvalid, StartRefused
from app.storage import current_revision, reading, writing
from app.storage.tables import sealed_keys, tokens
from app.vault import Keyring, TokenRow, TokenStore, Vault
from tests.storage.database import ON_SQLITE

from .tokens import KEYRING, OTHER_VALUE, VALUE, new_token

STORE = TokenStore(KEYRING)


async def added(engine: AsyncEngine, name: str = "shop", value: str = VALUE) -> TokenRow:
    """A token in the database."""
    async with writing(engine) as connection:
        return await STORE.add(connection, new_token(name, value))


async def value_of(engine: AsyncEngine, name: str) -> str:
    """The value that a send with the token would carry."""
    vault = Vault(KEYRING)
    async with reading(engine) as connection:
        await vault.load(connection)
        row = await STORE.show(connection, name)
    return vault.open(row.token.id)[1].reveal()


async def revision_of(engine: AsyncEngine) -> int:
    """The number that tells servers to read again."""
    async with reading(engine) as connection:
        return await current_revision(connection)


async def test_a_token_is_added_as_it_was_asked(engine: AsyncEngine) -> None:
    """A new token has the kind, rate, burst and pacing that it was given, is enabled, and holds its value."""
    before = await revision_of(engine)
    async with writing(engine) as connection:
        row = await STORE.add(connection, new_token("shop", kind=TokenKind.SOURCE, rate=5, burst=Burst.SPACED, pacing=Pacing.PROVEN))

    assert (row.token.name, row.token.kind, row.token.rate) == ("shop", TokenKind.SOURCE, 5)
    assert (row.token.burst, row.token.pacing) == (Burst.SPACED, Pacing.PROVEN)
    assert (row.token.enabled, row.token.version) == (True, 1)
    assert row.created_at == row.rotated_at
    assert await value_of(engine, "shop") == VALUE
    assert await revision_of(engine) > before


@ON_SQLITE
async def test_no_column_and_no_file_holds_a_value(engine: AsyncEngine, tmp_path: Path) -> None:
    """Neither the row nor anything in the database's files shows the value."""
    await added(engine)

    async with reading(engine) as connection:
        row = (await connection.execute(select(tokens))).one()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240 - a few pages of local files
    assert not any(VALUE.encode() in (cell if isinstance(cell, bytes) else str(cell).encode()) for cell in row)
    assert b"shop" in files
    assert VALUE.encode() not in files


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "0", "n" * 64])
async def test_a_name_may_be(engine: AsyncEngine, name: str) -> None:
    """Letters, digits, dots, dashes and underscores make a name, 64 of them at most."""
    assert (await added(engine, name)).token.name == name


@pytest.mark.parametrize("name", ["", " ", "-a", ".a", "a b", "a:b", "a/b", "a,b", "é", "a\n", "n" * 65])
async def test_a_name_may_not_be(engine: AsyncEngine, name: str) -> None:
    """What a header, a grant or a path couldn't hold is no name."""
    with pytest.raises(ParameterInvalid, match="a token's name has"):
        await added(engine, name)


@pytest.mark.parametrize("value", ["v" * 16, "v" * 512, "!\"#$%&'()*+,-./~"])
async def test_a_value_may_be(engine: AsyncEngine, value: str) -> None:
    """16 to 512 visible ASCII characters make a value."""
    await added(engine, "shop", value)

    assert await value_of(engine, "shop") == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "short-secret-15",
        "v" * 513,
        "with a blank 0000000",
        "a-secret-with-a-newline\n",
        "a-secret-with-\x7f-within",
        "a-secret-véry-odd",
    ],
)
async def test_a_value_may_not_be(engine: AsyncEngine, value: str) -> None:
    """What is too short to be searched for, or fits no header, is no value; the refusal doesn't repeat it."""
    with pytest.raises(ParameterInvalid, match="a token's value has 16 to 512 visible") as refused:
        await added(engine, "shop", value)

    assert not value or value not in str(refused.value)


@pytest.mark.parametrize("rate", [0, -1, 1_001])
async def test_a_rate_may_not_be(engine: AsyncEngine, rate: int) -> None:
    """A rate is 1 to 1,000 requests a second."""
    async with writing(engine) as connection:
        with pytest.raises(ParameterInvalid, match="a token's rate is 1 to 1000"):
            await STORE.add(connection, new_token(rate=rate))


async def test_a_name_is_held_once(engine: AsyncEngine) -> None:
    """A second token of the same name is refused, and the first is left as it is."""
    await added(engine)

    with pytest.raises(Conflict, match="there is a token named shop already"):
        await added(engine, "shop", OTHER_VALUE)

    assert await value_of(engine, "shop") == VALUE


async def test_a_value_is_held_once(engine: AsyncEngine) -> None:
    """One value has one lane: it is refused under another name too, without being repeated."""
    await added(engine)

    with pytest.raises(Conflict, match="this value is held already") as refused:
        await added(engine, "other", VALUE)

    assert VALUE not in str(refused.value)
    async with reading(engine) as connection:
        assert [row.token.name for row in await STORE.all(connection)] == ["shop"]


async def test_the_fingerprint_tells_values_apart(engine: AsyncEngine) -> None:
    """Two values have two fingerprints of eight hexadecimal digits."""
    one, other = await added(engine), await added(engine, "other", OTHER_VALUE)

    assert one.fingerprint != other.fingerprint
    assert all(len(row.fingerprint) == 8 and int(row.fingerprint, 16) >= 0 for row in (one, other))


async def test_the_fingerprints_key_is_made_once(engine: AsyncEngine) -> None:
    """The same value has the same fingerprint later on, so that a rotation and back shows as such."""
    first = await added(engine)
    async with writing(engine) as connection:
        second = await STORE.rotate(connection, "shop", TokenValue(OTHER_VALUE))
        third = await STORE.rotate(connection, "shop", TokenValue(VALUE))

    assert first.fingerprint == third.fingerprint != second.fingerprint
    async with reading(engine) as connection:
        assert len((await connection.execute(select(sealed_keys))).all()) == 1


async def test_a_rotation_puts_the_new_value_in_place(engine: AsyncEngine) -> None:
    """After a rotation the token is the same, in its next version, with the new value."""
    before = await added(engine)
    revision = await revision_of(engine)
    async with writing(engine) as connection:
        after = await STORE.rotate(connection, "shop", TokenValue(OTHER_VALUE))

    assert (after.token.id, after.token.version, after.created_at) == (before.token.id, 2, before.created_at)
    assert after.rotated_at >= before.rotated_at
    assert await value_of(engine, "shop") == OTHER_VALUE
    assert await revision_of(engine) > revision


@pytest.mark.parametrize("value", [VALUE, OTHER_VALUE])
async def test_a_rotation_to_a_value_that_is_held_is_refused(engine: AsyncEngine, value: str) -> None:
    """A value that is held already, by another token or by this very one, is refused, and nothing is changed."""
    await added(engine)
    await added(engine, "other", OTHER_VALUE)

    with pytest.raises(Conflict, match="this value is held already"):
        async with writing(engine) as connection:
            await STORE.rotate(connection, "shop", TokenValue(value))

    assert await value_of(engine, "shop") == VALUE


async def test_a_rotation_to_what_is_no_value_is_refused(engine: AsyncEngine) -> None:
    """A rotation checks the value as adding does."""
    await added(engine)

    with pytest.raises(ParameterInvalid):
        async with writing(engine) as connection:
            await STORE.rotate(connection, "shop", TokenValue("short"))

    assert await value_of(engine, "shop") == VALUE


async def test_a_token_is_disabled_and_enabled(engine: AsyncEngine) -> None:
    """Disabling and enabling change that alone, and each tells servers to read again."""
    await added(engine)
    revisions = [await revision_of(engine)]
    states = []
    for enabled in (False, True):
        async with writing(engine) as connection:
            states.append((await STORE.set_enabled(connection, "shop", enabled=enabled)).token.enabled)
        revisions.append(await revision_of(engine))

    assert states == [False, True]
    assert revisions[0] < revisions[1] < revisions[2]
    assert await value_of(engine, "shop") == VALUE


async def test_a_removed_token_is_gone(engine: AsyncEngine) -> None:
    """A removed token is no longer shown, and its name and value are free again."""
    await added(engine)
    revision = await revision_of(engine)
    async with writing(engine) as connection:
        gone = await STORE.remove(connection, "shop")
        assert await STORE.all(connection) == []

    assert gone.token.name == "shop"
    assert await revision_of(engine) > revision
    assert (await added(engine)).token.id != gone.token.id


async def test_the_tokens_are_listed_by_name(engine: AsyncEngine) -> None:
    """All tokens come in the order of their names, as each is shown by itself."""
    for number, name in enumerate(["b", "c", "a"]):
        await added(engine, name, f"{VALUE}-{number}")

    async with reading(engine) as connection:
        rows = await STORE.all(connection)
        assert rows == [await STORE.show(connection, name) for name in "abc"]


@pytest.mark.parametrize("work", ["show", "rotate", "enable", "remove"])
async def test_a_token_that_is_not_there(engine: AsyncEngine, work: str) -> None:
    """Whatever is done to a token that there isn't is refused by its name."""

    async def do() -> None:
        async with writing(engine) as connection:
            match work:
                case "show":
                    await STORE.show(connection, "none")
                case "rotate":
                    await STORE.rotate(connection, "none", TokenValue(VALUE))
                case "enable":
                    await STORE.set_enabled(connection, "none", enabled=True)
                case _:
                    await STORE.remove(connection, "none")

    with pytest.raises(NotFound, match="there is no token of that name"):
        await do()


@pytest.mark.parametrize("work", ["add", "rotate"])
async def test_another_master_key_changes_nothing(engine: AsyncEngine, work: str) -> None:
    """With master keys that don't open what is there, adding and rotating are refused in one line, and nothing is changed."""
    await added(engine)
    stranger = TokenStore(Keyring({"k2": bytes(32)}))

    async def change() -> None:
        async with writing(engine) as connection:
            if work == "add":
                await stranger.add(connection, new_token("other", OTHER_VALUE))
            else:
                await stranger.rotate(connection, "shop", TokenValue(OTHER_VALUE))

    with pytest.raises(StartRefused, match="GATEWAY_MASTER_KEYS: "):
        await change()

    assert await value_of(engine, "shop") == VALUE


async def test_a_values_lane_is_known_before_a_token_has_it(engine: AsyncEngine) -> None:
    """A token has a value just where it has the value's lane; what isn't a value has none."""
    async with writing(engine) as connection:
        lanes = await STORE.lanes_of(connection, [TokenValue(VALUE), TokenValue(OTHER_VALUE)])
    row = await added(engine)

    assert row.token.lane == lanes[0] != lanes[1]
    async with writing(engine) as connection:
        with pytest.raises(ParameterInvalid, match="16 to 512 visible ASCII characters"):
            await STORE.lanes_of(connection, [TokenValue("short")])
