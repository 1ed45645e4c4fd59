"""The program as a whole: how its commands end, the database's commands, the description of our API."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from app.storage.migrate import newest_schema

from .processes import REPOSITORY
from .shell import Ran, Shell


def test_help_is_status_0(shell: Shell) -> None:
    """Help is no failure, and names every command and group."""
    ran = shell("--help")

    assert (ran.status, ran.err) == (0, "")
    commands = ("serve", "demo", "simulate", "lanes", "link", "openapi", "check", "token", "caller", "jobs", "key", "vault", "audit", "db")
    assert all(name in ran.out for name in commands)


@pytest.mark.parametrize("arguments", [("nothing",), ("token", "nothing"), ("token", "add"), ("token", "add", "a", "--kind", "none")])
def test_a_slip_in_the_arguments_is_status_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    """What can't be understood ends with status 2 and says so on standard error."""
    ran = shell(*arguments)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "list"),
        ("caller", "list"),
        ("audit", "list"),
        ("vault", "status"),
        ("vault", "reseal"),
        ("db", "upgrade"),
        ("db", "current"),
        ("openapi",),
        ("lanes",),
        ("jobs", "list"),
        ("token", "resume", "shop"),
        ("serve",),
        ("caller", "add", "a", "--grant", "shop:link-orders"),
    ],
)
def test_a_wrong_setting_is_status_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Where the process can't start as it was told to, every command ends with status 2 and one line that names the variable."""
    shell.set(PORT="eighty")

    ran = shell(*arguments)

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("GATEWAY_PORT: ")


def test_wrong_master_keys_are_status_2(shell: Shell) -> None:
    """Keys that are none stop a command, without being shown."""
    shell.set(MASTER_KEYS="k1:sesame")

    ran = shell("token", "list")

    assert ran == Ran(2, "", "GATEWAY_MASTER_KEYS: entry 1 should be `id:` and 32 bytes in base64, each id once\n")


def test_another_master_key_is_status_2(shell: Shell) -> None:
    """Keys that don't open what is there stop a change in one line, whichever command makes it."""
    shell.set(MASTER_KEYS="k1:" + "A" * 43 + "=")
    shell("token", "add", "shop", "--kind", "account", given="a-token-value-0001")
    shell.set(MASTER_KEYS="k1:" + "B" * 43 + "=")

    for arguments in (("add", "store", "--kind", "account"), ("rotate", "shop")):
        ran = shell("token", *arguments, given="a-token-value-0002")

        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert ran.err.startswith("GATEWAY_MASTER_KEYS: ")


def test_the_databases_schema_is_told(shell: Shell) -> None:
    """`db current` tells the schema without making anything, and `db upgrade` brings the newest."""
    newest = newest_schema()

    before = shell("db", "current")
    made = shell.state_dir.exists()
    upgraded = shell("db", "upgrade")
    after = shell("db", "current")

    assert before == Ran(0, f"the database has schema none; the newest is {newest}\n", "")
    assert not made
    assert upgraded == Ran(0, f"the database has schema {newest}\n", "")
    assert after == Ran(0, f"the database has schema {newest}; the newest is {newest}\n", "")


def test_telling_the_schema_makes_no_database(shell: Shell) -> None:
    """Also in a state folder that is there, `db current` only looks."""
    shell.state_dir.mkdir()

    ran = shell("db", "current")

    assert (ran.status, ran.out.split(";")[0]) == (0, "the database has schema none")
    assert list(shell.state_dir.iterdir()) == []


@pytest.mark.parametrize("arguments", [("db", "current"), ("db", "upgrade"), ("token", "list"), ("audit", "list")])
def test_a_file_that_is_no_database_is_status_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    """A database that can't be used stops every command in one line."""
    shell.state_dir.mkdir()
    (shell.state_dir / "gateway.db").write_bytes(b"this is no database, but it is long enough to be taken for one" * 100)

    ran = shell(*arguments)

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("GATEWAY_DATABASE_URL: ")


@pytest.mark.parametrize("arguments", [("token", "list"), ("token", "add", "shop", "--kind", "account"), ("audit", "list")])
def test_a_database_that_fails_midway_is_status_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    """A database that opens and then fails stops a command in one line too, without the statement and what was bound to it."""
    shell.set(MASTER_KEYS="k1:" + "A" * 43 + "=")
    shell("db", "upgrade")
    with closing(sqlite3.connect(shell.state_dir / "gateway.db")) as connection:
        connection.executescript("DROP TABLE tokens; DROP TABLE audit_records;")

    ran = shell(*arguments, given="a-token-value-0001")

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("GATEWAY_DATABASE_URL: ")
    assert not any(word in ran.err for word in ("SELECT", "INSERT"))


def test_our_apis_description_is_valid(shell: Shell) -> None:
    """`openapi` prints an OpenAPI document that any tool can read, with the catalogue's operation in it, and opens no state."""
    document = shell("openapi").document

    validate(document, cls=OpenAPIV31SpecValidator)

    assert "patch" in document["paths"]["/orders/link"]
    assert not shell.state_dir.exists()


def test_our_apis_description_follows_the_catalogue(shell: Shell, tmp_path: Path) -> None:
    """A parameter's name that was changed in the catalogue is the one described."""
    shipped = (REPOSITORY / "openapi" / "flxpoint.yaml").read_text(encoding="utf-8")
    (tmp_path / "catalogue.yaml").write_text(shipped.replace("orderIds", "order_id"), encoding="utf-8")
    shell.set(CATALOGUE=str(tmp_path / "catalogue.yaml"))

    parameters = shell("openapi").document["paths"]["/orders/link"]["patch"]["parameters"]

    assert [one["name"] for one in parameters if one["in"] == "query"] == ["order_id", "orderItemIds", "channelIds"]


def test_the_description_that_is_kept_is_the_codes(shell: Shell, tmp_path: Path) -> None:
    """`openapi/gateway.json` is what the command prints and writes; `make openapi` writes it anew."""
    printed = shell("openapi")
    written = shell("openapi", "--output", str(tmp_path / "gateway.json"))

    assert (written.status, written.out) == (0, "")
    assert (tmp_path / "gateway.json").read_text(encoding="utf-8") == printed.out
    assert (REPOSITORY / "openapi" / "gateway.json").read_text(encoding="utf-8") == printed.out


def test_a_description_that_cant_be_written_is_told(shell: Shell, tmp_path: Path) -> None:
    """A file that can't be written ends `openapi` with a failure and one line that names it."""
    ran = shell("openapi", "--output", str(tmp_path / "none" / "gateway.json"))

    assert (ran.status != 0, ran.out, ran.err.count("\n")) == (True, "", 1)
    assert str(tmp_path / "none" / "gateway.json") in ran.err


def test_a_wrong_catalogue_is_status_2(shell: Shell, tmp_path: Path) -> None:
    """A catalogue that isn't there stops `openapi` and `serve` in one line."""
    shell.set(CATALOGUE=str(tmp_path / "none.yaml"))

    for command in ("openapi", "serve"):
        ran = shell(command)

        assert (ran.status, ran.out) == (2, "")
        assert ran.err.splitlines()[-1].startswith(f"GATEWAY_CATALOGUE: {tmp_path / 'none.yaml'} can't be read: ")


# --- serve and simulate, where they don't come to serving


def test_several_workers_need_what_they_share(shell: Shell) -> None:
    """Several processes on one embedded database, each with turns of its own, aren't started: the message says what to set."""
    ran = shell("serve", "--workers", "2")

    assert ran.status == 2
    assert ran.err.startswith("--workers: 2 processes need GATEWAY_DATABASE_URL=postgresql+asyncpg://")
    assert "GATEWAY_VALKEY_URL=valkey://" in ran.err


def test_a_port_beyond_all_ports_is_refused(shell: Shell) -> None:
    """A port that there can't be is refused by `serve` and by `simulate`, which would otherwise take another one."""
    serve = shell("serve", "--port", "65536")
    # The wrong token is there so that this ends in any case.
    simulate = shell("simulate", "--port", "65536", "--token", "wrong")

    assert (serve.status, serve.err.split(":")[0]) == (2, "GATEWAY_PORT")
    assert (simulate.status, "--port" in simulate.err) == (2, True)


def test_a_state_folder_that_cant_be_locked_is_refused(shell: Shell) -> None:
    """A file in the state folder's place stops `serve` in one line that names the variable."""
    shell.state_dir.write_text("", encoding="utf-8")

    ran = shell("serve")

    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(f"GATEWAY_STATE_DIR: {shell.state_dir} can't be used: ")


def test_a_port_in_use_is_told(shell: Shell) -> None:
    """A port that somebody listens on ends `serve` with a failure that names the address; the state is closed in order."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        ran = shell("serve", "--port", str(port))

    lines = [json.loads(line) for line in ran.err.splitlines()]
    errors = [line["event"] for line in lines if line["level"] == "error"]
    assert ran.status not in {0, None}
    assert len(errors) == 1
    assert "address already in use" in errors[0]
    assert str(port) in errors[0]
    assert not (shell.state_dir / "gateway.db-wal").exists()


def test_variables_that_name_no_setting_are_warned_of(shell: Shell) -> None:
    """A slip in a variable's name is told at the start, by its name alone."""
    shell.set(PROT="8080-0001", LOG_LEVEL="WARNING")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ran = shell("serve", "--port", str(listening.getsockname()[1]))

    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert [line["variable"] for line in lines if line["level"] == "warning" and "variable" in line] == ["GATEWAY_PROT"]
    assert "8080-0001" not in ran.err


@pytest.mark.parametrize(
    "tokens",
    [
        ("shop",),
        ("shop=value-0001",),
        ("shop=value-0001:wholesale",),
        ("=value-0001:account",),
        ("shop=:account",),
        ("shop=value-0001:account", "shop=value-0002:account"),
        ("shop=value-0001:account", "store=value-0001:account"),
    ],
)
def test_simulate_refuses_what_is_no_token(shell: Shell, tokens: tuple[str, ...]) -> None:
    """A token of another form, and two that share a name or a value, stop `simulate` in one line that shows the form."""
    ran = shell("simulate", *(argument for token in tokens for argument in ("--token", token)))

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("--token: should be NAME=VALUE:KIND")
    assert "value-0001" not in ran.err
