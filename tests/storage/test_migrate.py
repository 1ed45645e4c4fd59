"""Bringing databases to the newest schema."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import CallerRow, CallerStore, Directory, GrantAsked, KeyRow, make_key
from app.domain import Burst, Caller, Grant, Pacing, Role, TokenKind, TokenRef
from app.errors import StartRefused
from app.storage import Dialect, current_revision, reading, touch_revision, writing
from app.storage.engine import patient
from app.storage.migrate import _config, known_schemas, newest_schema, schema_of, upgrade
from app.storage.postgresql import SESSION
from app.storage.tables import METADATA, grants, schema_needs, tokens
from app.vault.registry import token_of
from tests.rig import until
from tests.servers.postgres import Postgres

from .database import ON_SQLITE, hurry, opened


async def objects(engine: AsyncEngine) -> dict[str, list[str]]:
    """Every table, index and trigger with the parts of the SQL that makes it, in no order: a column that was added later stands last."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT IN ('alembic_version', 'sqlite_sequence')"
    async with reading(engine) as connection:
        rows = (await connection.exec_driver_sql(query)).mappings().all()
    return {row["name"]: sorted(parts(row["sql"])) for row in rows}


def parts(sql: str) -> list[str]:
    """A statement's beginning and what stands in its outer parentheses, between commas, each in one line."""
    beginning, _, rest = sql.rpartition(")")[0].partition("(")
    found, depth = [""], 0
    for character in rest:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return [" ".join(part.split()) for part in (beginning, *found)]


async def test_a_fresh_database_is_migrated(empty: str) -> None:
    """A file that isn't there yet is made; it, or the server's database, has the newest schema, with the revision at its beginning."""
    async with opened(empty) as engine:
        before = await schema_of(engine)
        await upgrade(engine)

        assert before is None
        assert await schema_of(engine) == newest_schema()
        async with reading(engine) as connection:
            assert await current_revision(connection) == 1


@ON_SQLITE
async def test_migrating_again_does_nothing(engine: AsyncEngine, tmp_path: Path) -> None:
    """A database that has the newest schema is left as it is, and isn't even locked for it."""
    async with writing(engine), opened(tmp_path / "gateway.db") as other:
        before = await objects(other)
        await upgrade(other)

        assert await objects(other) == before


async def test_two_that_migrate_at_once_migrate_once(empty: str) -> None:
    """Processes that start together on a new database agree on it."""
    async with opened(empty) as one, opened(empty) as other:
        await asyncio.gather(upgrade(one), upgrade(other))

        assert await schema_of(one) == newest_schema()
        async with reading(other) as connection:
            assert await current_revision(connection) == 1


async def test_a_long_migration_is_waited_for(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts meanwhile waits for the lock longer than for any other, and a statement of a migration may take as long as it needs."""
    hurry(monkeypatch)
    address = postgres_server.new_database()
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    slow = "SELECT pg_sleep(0.1) FROM generate_series(1, 3)"

    async def waited_for() -> bool:
        return await asyncio.to_thread(postgres_server.ask, waits) != ["0"]

    monkeypatch.setitem(SESSION, "statement_timeout", "200ms")
    async with opened(address) as one, opened(address) as other:
        async with patient(one) as first, writing(first) as connection:
            upgrading = asyncio.create_task(upgrade(other))
            await until(waited_for)
            await connection.exec_driver_sql(slow)
        await upgrading

        assert await schema_of(one) == newest_schema()


async def test_a_table_that_others_hold_is_not_waited_for(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """All who use it would wait behind the migration: it is refused in one line that says who holds the table, and goes through later."""
    hurry(monkeypatch)
    async with opened(postgres_server.new_database()) as one, opened(one.url.render_as_string(hide_password=False)) as other:
        await upgrade(one, "0001")
        async with reading(other) as connection:
            await connection.execute(text("SELECT name FROM tokens"))
            holder = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            with pytest.raises(StartRefused, match=rf"^GATEWAY_DATABASE_URL: [^\n]* held by pid {holder}; nothing was changed, try again$"):
                await upgrade(one)
        unchanged = await schema_of(one)
        await upgrade(one)

        assert (unchanged, await schema_of(one)) == ("0001", newest_schema())


async def test_the_tables_are_as_the_code_describes_them(engine: AsyncEngine) -> None:
    """Alembic finds no difference between what the migrations made and what the code describes, which computes as SQLite does."""

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": engine.dialect.name == Dialect.SQLITE}
        )
        return list(compare_metadata(context, METADATA))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


@ON_SQLITE
async def test_the_migrations_write_the_same_sql_as_the_models(engine: AsyncEngine, tmp_path: Path) -> None:
    """Also what Alembic doesn't compare is the same: checks, foreign keys' actions, computed columns, AUTOINCREMENT."""
    async with opened(tmp_path / "models.db") as models:
        async with models.begin() as connection:
            await connection.run_sync(METADATA.create_all)

        assert await objects(engine) == await objects(models)


async def become_newer(engine: AsyncEngine, needs: str) -> None:
    """Have the database be as a newer version would leave it: for code that knows a revision."""
    async with writing(engine) as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        await connection.execute(update(schema_needs).values(revision=needs))


async def test_a_newer_database_stops_the_start(engine: AsyncEngine) -> None:
    """A schema that this version mustn't use is refused in one line that names it, and the database stays as it is."""
    await become_newer(engine, needs="9998")

    with pytest.raises(StartRefused, match=r"schema 9999, which this version doesn't know: .* that know 9998; this one knows") as refused:
        await upgrade(engine)

    assert "\n" not in str(refused.value)
    assert await schema_of(engine) == "9999"


async def test_a_newer_database_that_says_nothing_stops_the_start(engine: AsyncEngine) -> None:
    """Where it isn't said who may use it, nobody may who doesn't know it."""
    await become_newer(engine, needs="9998")
    async with writing(engine) as connection:
        await connection.exec_driver_sql("DROP TABLE schema_needs")

    with pytest.raises(StartRefused, match="may be used by versions that know 9999"):
        await upgrade(engine)


async def test_a_newer_database_is_used_as_it_is_where_it_may_be(empty_engine: AsyncEngine) -> None:
    """In a rolling update a process of the old version starts on the schema of the new one, and leaves it alone."""
    await upgrade(empty_engine)
    await become_newer(empty_engine, needs=newest_schema())
    await upgrade(empty_engine)
    async with writing(empty_engine) as connection:
        await touch_revision(connection)

    assert await schema_of(empty_engine) == "9999"


async def test_a_database_says_what_code_may_use_it(empty_engine: AsyncEngine) -> None:
    """It says what its newest migration needs."""
    await upgrade(empty_engine)
    async with reading(empty_engine) as connection:
        found = (await connection.execute(select(schema_needs.c.revision))).scalars().all()

    assert found == [needs_of()[newest_schema()]]


def needs_of() -> dict[str, str]:
    """What each migration from 0006 on says that its schema needs, oldest first."""
    scripts = list(ScriptDirectory.from_config(_config()).walk_revisions())[::-1]
    return {script.revision: script.module.needs for script in scripts if script.revision >= "0006"}


def test_every_migration_says_what_it_needs() -> None:
    """A revision that is known, not newer than its own, and not older than what the one before needs."""
    needs = needs_of()

    assert set(needs.values()) <= known_schemas()
    assert all(needed <= own for own, needed in needs.items())
    assert list(needs.values()) == sorted(needs.values())


async def test_tokens_of_the_first_schema_stay_as_they_were(tmp_path: Path) -> None:
    """A database at 0001 is brought up with its tokens and their grants; they are paced as before, by what was learned."""
    async with opened(tmp_path / "old.db") as engine:
        async with writing(engine) as connection:
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), "0001"))
            await connection.exec_driver_sql(
                "INSERT INTO tokens VALUES ('t1', 'shop', 'account', 3, 'spaced', 1, 4, 'k1', x'01', x'02', x'0304', 'then', 'now')"
            )
            await connection.exec_driver_sql("INSERT INTO callers VALUES ('c1', 'order-service', NULL, 1, NULL, 't1', 'then')")
            await connection.exec_driver_sql("INSERT INTO grants VALUES ('c1', 't1', NULL)")
        found = await schema_of(engine)
        await upgrade(engine)
        async with reading(engine) as connection:
            row = (await connection.execute(select(tokens))).mappings().one()
            granted = (await connection.execute(select(grants.c.token_id))).scalars().all()

    assert found == "0001"
    assert token_of(row) == TokenRef(
        "t1", "shop", TokenKind.ACCOUNT, 3, Burst.SPACED, enabled=True, version=4, lane="0304", pacing=Pacing.LEARNED
    )
    assert (row["sealed"], row["rotated_at"]) == (b"\x02", "now")
    assert granted == ["t1"]


async def test_callers_of_the_second_schema_go_on_calling(tmp_path: Path) -> None:
    """A database at 0002 is brought up with its callers, keys and grants: from everywhere, without an end, enabled, declared nowhere."""
    key = make_key()
    async with opened(tmp_path / "old.db") as engine:
        async with writing(engine) as connection:
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), "0002"))
            await connection.exec_driver_sql(
                "INSERT INTO tokens VALUES ('t1', 'a', 'account', 2, 'window', 1, 1, 'k', x'01', x'02', x'03', 'then', 'then', 'learned')"
            )
            await connection.exec_driver_sql("INSERT INTO callers VALUES ('c1', 'order-service', 'admin', 3, '5/second', 't1', 'then')")
            await connection.exec_driver_sql("INSERT INTO caller_keys VALUES (?, 'c1', ?, 'then')", (key.id, key.sha256))
            await connection.exec_driver_sql("INSERT INTO grants VALUES ('c1', 't1', NULL)")
        await upgrade(engine)
        directory = Directory()
        async with reading(engine) as connection:
            row = await CallerStore().show(connection, "order-service")
            await directory.load(connection)

    assert row == CallerRow(
        id="c1",
        name="order-service",
        role="admin",
        weight=3,
        rate="5/second",
        default_token="a",
        grants=(GrantAsked("a"),),
        keys=(KeyRow(key.id, "then"),),
        created_at="then",
    )
    assert directory.prove(key) == Caller("c1", "order-service", key.id, (Grant("t1", "a"),), "t1", Role.ADMIN, 3, "5/second")


def test_the_newest_schema_is_known() -> None:
    """The newest migration is one of those that the code has."""
    assert newest_schema() in known_schemas()
