"""Commands on a PostgreSQL database: what they do there, and how they say that they can't."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.storage.migrate import newest_schema
from tests.servers.postgres import PASSWORD, Postgres

from .shell import Ran, Shell

VALUE = "a-simulated-token-value-0001"
DECLARED = """
tokens:
- {name: store, kind: account, value: {file: store.value}}
callers:
- {name: order-service, grants: [{token: store}], keys: [{file: caller.key}]}
"""
ROLE = "serving"


@pytest.fixture
def empty(shell: Shell, postgres_server: Postgres) -> Shell:
    """A shell whose database is a server's, and empty."""
    shell.set(DATABASE_URL=postgres_server.new_database(), PORT="0")
    return shell


@pytest.fixture
def served(shell: Shell, postgres_server: Postgres, template: str) -> Shell:
    """A shell whose database is a server's, and holds a token."""
    shell.set(DATABASE_URL=postgres_server.new_database(template), PORT="0")
    assert shell("token", "add", "shop", "--kind", "account", given=VALUE).status == 0
    return shell


def address(shell: Shell) -> str:
    """The database's address."""
    return shell.variable("DATABASE_URL")


def name(shell: Shell) -> str:
    """The database's name."""
    return address(shell).rpartition("/")[2]


def checked(shell: Shell, what: str = "database") -> tuple[str, str]:
    """What `check` says of one thing."""
    (found,) = [one for one in json.loads(shell("check", "--offline", "--json").out) if one["name"] == what]
    return found["status"], found["text"]


def test_the_record_is_proven_and_exported(served: Shell, tmp_path: Path) -> None:
    """Against the anchors that it gives, and by the key alone; what isn't old enough isn't pruned."""
    served("token", "disable", "shop")
    anchored = served("audit", "anchor", "--output", str(tmp_path / "anchors"))
    exported = served("audit", "export", "--output", str(tmp_path / "records.jsonl"))
    (tmp_path / "key.pem").write_text(served("audit", "key").out)
    (served.state_dir / "master.keys").unlink()
    verified = served("audit", "verify", "--anchor", str(tmp_path / "anchors"), "--key", str(tmp_path / "key.pem"))

    assert (anchored.status, exported.status) == (0, 0)
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 3
    assert verified == Ran(0, "all holds: 3 records in 1 chains against 1 anchors\n", "")


def test_a_record_that_was_altered_is_named(served: Shell, postgres_server: Postgres) -> None:
    """As on SQLite, by its place, and only that."""
    postgres_server.ask("UPDATE audit_records SET body = replace(body, 'shop', 'shoq') WHERE number = 2", name(served))
    ran = served("audit", "verify")

    first, last = ran.out.splitlines()
    assert ran.status == 1
    assert first.startswith("WRONG  record-altered: chain administration, seq 2, number 2, ID ")
    assert last == "NOT PROVEN: 1 findings in 2 records in 1 chains"


def test_an_empty_database_is_checked_and_stays_empty(empty: Shell, postgres_server: Postgres) -> None:
    """`check` says what a start would do."""
    found = checked(empty)

    assert found == ("warning", f"is empty; the start would bring it to {newest_schema()}")
    assert postgres_server.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name(empty)) == ["0"]


def test_a_configuration_file_is_rehearsed_on_a_copy(served: Shell, postgres_server: Postgres, tmp_path: Path) -> None:
    """What it would change is told, beside the tokens that are there; nothing is written to the server."""
    (tmp_path / "store.value").write_text(f"{VALUE}-of-the-store")
    (tmp_path / "caller.key").write_text("fgk_0123456789ab_" + "C" * 43)
    (tmp_path / "gateway.yaml").write_text(DECLARED)
    served.set(CONFIG_FILE=str(tmp_path / "gateway.yaml"))
    found = {what: checked(served, what) for what in ("database", "master keys", "configuration file")}

    assert found == {
        "database": ("ok", f"has schema {newest_schema()}, the newest"),
        "master keys": ("ok", "open every token, 1 in all"),
        "configuration file": ("ok", "declares 1 tokens and 1 callers; would change: token:added 1, caller:added 1, caller:key-added 1"),
    }
    assert postgres_server.ask("SELECT name FROM tokens", name(served)) == ["shop"]
    assert postgres_server.ask("SELECT count(*) FROM callers", name(served)) == ["0"]


@pytest.fixture
def role(served: Shell, postgres_server: Postgres) -> Iterator[str]:
    """A role that may do nothing yet."""
    postgres_server.ask(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    yield ROLE
    postgres_server.ask(f"DROP OWNED BY {ROLE}", name(served))
    postgres_server.ask(f"DROP ROLE {ROLE}")


def test_a_role_needs_no_more_than_the_rows(served: Shell, postgres_server: Postgres, role: str) -> None:
    """`check` names the tables that it may not read and write; with these rights it works on another's tables, and reads with fewer."""
    database, found = name(served), []
    served.set(DATABASE_URL=address(served).replace("//gateway:", f"//{role}:"))
    for right in (
        "REVOKE ALL ON grants FROM",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO",
        "REVOKE INSERT ON grants FROM",
    ):
        postgres_server.ask(f"{right} {role}", database)
        found.append(checked(served))
    changed = served("token", "disable", "shop")
    postgres_server.ask(f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM {role}", database)
    read = [served("audit", *command.split()) for command in ("verify", "anchor", "list", "show 1", "export --format jsonl")]

    assert [status for status, _ in found] == ["failed", "ok", "failed"]
    assert "permission denied" in found[0][1]
    assert found[2] == ("failed", "GATEWAY_DATABASE_URL: its user may not read and write grants")
    assert (changed.status, [one.status for one in read]) == (0, [0] * 5)


REFUSALS: dict[str, tuple[Callable[[str], str], str]] = {
    "a wrong password": (lambda own: own.replace(PASSWORD, f"{PASSWORD}2"), "password authentication failed"),
    "no server": (lambda own: own.rpartition(":")[0] + ":1/x", "Connect call failed"),
    "no database": (lambda own: f"{own}-none", "does not exist"),
    "an unknown option": (lambda own: f"{own}?sslmode=require", "there is no option sslmode; TLS is asked for by ssl=require"),
}


@pytest.mark.parametrize("why", REFUSALS)
@pytest.mark.parametrize("command", ["db current", "token list", "audit verify", "audit list", "check"])
def test_a_database_that_can_not_be_used_is_one_line(empty: Shell, why: str, command: str) -> None:
    """It begins with the variable and holds no password."""
    change, told = REFUSALS[why]
    empty.set(DATABASE_URL=change(address(empty)))
    ran = empty(*command.split(), *(["--offline"] if command == "check" else []))
    (line,) = [one for one in ran.out.splitlines() if "failed " in one] if command == "check" else ran.err.splitlines()

    assert ran.status == (1 if command == "check" else 2)
    assert line.removeprefix("failed   database: ").startswith("GATEWAY_DATABASE_URL: the database can't be ")
    assert told in line
    assert PASSWORD not in ran.out + ran.err


def test_a_newer_schema_is_one_line(served: Shell, postgres_server: Postgres) -> None:
    """Where no version but its own may use it, every command leaves it as it is."""
    postgres_server.ask("UPDATE alembic_version SET version_num = '9999'", name(served))
    postgres_server.ask("UPDATE schema_needs SET revision = '9999'", name(served))
    told = "GATEWAY_DATABASE_URL: the database has schema 9999, "
    ran = [served(*command.split()) for command in ("token list", "audit verify", "audit list", "db upgrade")]
    status, text = checked(served)

    assert [(one.status, one.out, len(one.err.splitlines())) for one in ran] == [(2, "", 1)] * 4
    assert all(line.startswith(told) for line in (*(one.err for one in ran), text))
    assert status == "failed"


def test_a_newer_schema_that_may_be_used_is_rehearsed(served: Shell, postgres_server: Postgres) -> None:
    """Without the columns that only the newer version knows."""
    postgres_server.ask("UPDATE alembic_version SET version_num = '9999'", name(served))
    postgres_server.ask("ALTER TABLE tokens ADD later text NOT NULL DEFAULT ''", name(served))

    assert checked(served) == ("warning", f"has schema 9999, a newer version's, which this one may use; its own is {newest_schema()}")
    assert checked(served, "master keys") == ("ok", "open every token, 1 in all")
