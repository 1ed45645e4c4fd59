"""`check`: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.callers import NewCaller
from app.cli.record_checks import RECORD_CHECKS
from app.cli.state import administer
from app.domain import TokenKind, TokenValue
from app.storage.migrate import newest_schema
from app.vault import TICKET_SIGNING, Keyring, NewToken
from tests.rig import settings_for
from tests.servers.authority import Authority

from .processes import environment, free_port, run, started
from .shell import Shell

CANARY = "a-canary-value-000"
KEY = "fgk_0123456789ab_" + "C" * 43
DECLARED = """
tokens:
- {name: shop, kind: account, value: {file: shop.value}}
callers:
- {name: order-service, grants: [{token: shop}], keys: [{file: caller.key}]}
"""
NAMES = [
    "settings",
    "catalogue",
    "state folder",
    "database",
    "master keys",
    "configuration file",
    "audit spool",
    "audit stream",
    "audit anchor command",
    "audit archive",
    "certificate",
    "address",
    "upstream",
    "identity provider",
]


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a server that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def ready(shell: Shell, listening: int, tmp_path: Path) -> Shell:
    """A shell in which everything holds: an upstream that can be reached, a state folder with a token, a configuration file."""
    (tmp_path / "shop.value").write_text(f"{CANARY}1", encoding="utf-8")
    (tmp_path / "caller.key").write_text(KEY, encoding="utf-8")
    (tmp_path / "gateway.yaml").write_text(DECLARED, encoding="utf-8")
    upstream = f"http://127.0.0.1:{listening}"
    shell.set(UPSTREAM_URL=upstream, OIDC_ISSUER=upstream, OIDC_AUDIENCE="gateway", CONFIG_FILE=str(tmp_path / "gateway.yaml"), PORT="0")
    administer(lambda ada: ada.add_token(NewToken("store", TokenKind.ACCOUNT, TokenValue(f"{CANARY}2"))))
    return shell


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """A folder's files, with the time of their last change."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def found(shell: Shell, *options: str) -> dict[str, tuple[str, str]]:
    """What `check` found, by name, and the status that it ended with as `exit`."""
    ran = shell("check", "--json", *options)
    document: list[dict[str, Any]] = json.loads(ran.out)
    assert not any(secret in ran.out + ran.err for secret in (CANARY, "C" * 43))
    assert ran.status == int(any(one["status"] == "failed" for one in document))
    return {one["name"]: (one["status"], one["text"]) for one in document}


def test_everything_holds(ready: Shell, listening: int, tmp_path: Path) -> None:
    """Each check is one line, in one order, and says what it found; not a file of the state folder is changed or made."""
    before = contents(ready.state_dir)
    ran = ready("check")

    reached = f"127.0.0.1:{listening} answers, without TLS"
    would = "would change: token:added 1, caller:added 1, caller:key-added 1"
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "ok       settings: every variable names a setting",
        "ok       catalogue: operations: link-orders",
        f"ok       state folder: {ready.state_dir} can be written",
        f"ok       database: has schema {newest_schema()}, the newest",
        "ok       master keys: open every token, 1 in all",
        f"ok       configuration file: declares 1 tokens and 1 callers; {would}",
        f"ok       audit spool: {ready.state_dir / 'audit.spool'} would be made",
        "ok       audit stream: none",
        "ok       audit anchor command: none",
        "ok       audit archive: none",
        "ok       certificate: none; HTTP is spoken",
        "ok       address: a free port of 127.0.0.1",
        f"ok       upstream: {reached}",
        f"ok       identity provider: {reached}",
    ]
    assert contents(ready.state_dir) == before
    assert set(before) == {"gateway.db", "master.keys"}
    assert {path.name for path in tmp_path.iterdir()} == {"state", "shop.value", "caller.key", "gateway.yaml"}


def test_before_the_first_start_nothing_is_made(shell: Shell) -> None:
    """Where nothing is there yet, it says what would be made."""
    shell.set(PORT="0")

    told = found(shell, "--offline")

    assert list(told) == NAMES
    assert told["state folder"] == ("ok", f"{shell.state_dir} would be made")
    assert told["database"] == ("ok", f"none yet; would be made with schema {newest_schema()}")
    assert told["master keys"] == ("ok", f"none yet; one would be made at {shell.state_dir / 'master.keys'}")
    assert told["configuration file"] == ("ok", "none")
    assert told["upstream"] == ("skipped", "offline")
    assert told["identity provider"] == ("ok", "none")
    assert not shell.state_dir.exists()


def test_a_wrong_setting_ends_it(shell: Shell) -> None:
    """Without settings there is nothing to check by; the one line names the variable."""
    shell.set(PORT="eighty")

    ran = shell("check")

    assert (ran.status, ran.err, ran.out.count("\n")) == (1, "", 1)
    assert ran.out.startswith("failed   settings: GATEWAY_PORT: ")


def test_each_finding_is_told_as_it_comes(tmp_path: Path) -> None:
    """While a server keeps the last checks waiting, those before it are told already, also into a file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        variables = environment(STATE_DIR=tmp_path / "state", PORT=0, UPSTREAM_URL=f"https://127.0.0.1:{server.getsockname()[1]}")
        with started("check", variables=variables, folder=tmp_path / "check") as checking:
            connection, _ = server.accept()
            with connection:
                told = checking.out
            checking.process.wait(30)

    assert [line.split(":")[0].split(maxsplit=1)[1] for line in told.splitlines()] == NAMES[: NAMES.index("upstream")]


Spoil = Callable[[Shell, Path], object]
SPOILED: dict[str, tuple[Spoil, str, str, str]] = {
    "a slip in a variable": (lambda shell, _: shell.set(PROT="1"), "settings", "warning", "GATEWAY_PROT"),
    "no catalogue": (
        lambda shell, _: shell.set(CATALOGUE="none.yaml"),
        "catalogue",
        "failed",
        "GATEWAY_CATALOGUE: none.yaml can't be read",
    ),
    "a file for a folder": (
        lambda shell, folder: shell.set(STATE_DIR=str(folder / "shop.value" / "state")),
        "state folder",
        "failed",
        "is no folder",
    ),
    "no database": (
        lambda shell, _: (shell.state_dir / "gateway.db").write_bytes(b"no database" * 1_000),
        "database",
        "failed",
        "GATEWAY_DATABASE_URL: the database can't be used: file is not a database",
    ),
    "a newer database": (
        lambda shell, _: make_newer(shell, needs="9999"),
        "database",
        "failed",
        "GATEWAY_DATABASE_URL: the database has schema 9999, which this version doesn't know",
    ),
    "a newer database that may be used": (
        lambda shell, _: make_newer(shell, needs=newest_schema()),
        "database",
        "warning",
        f"has schema 9999, a newer version's, which this one may use; its own is {newest_schema()}",
    ),
    "an older database": (
        lambda shell, _: make_older(shell),
        "database",
        "warning",
        f"has schema 0002; the start would bring it to {newest_schema()}",
    ),
    "no master key": (lambda shell, _: (shell.state_dir / "master.keys").unlink(), "master keys", "failed", "GATEWAY_MASTER_KEYS: set it"),
    "no master key in production": (
        lambda shell, folder: shell.set(ENVIRONMENT="production", STATE_DIR=str(folder / "new"), OIDC_ISSUER="", OIDC_AUDIENCE=""),
        "master keys",
        "failed",
        "GATEWAY_MASTER_KEYS: set it",
    ),
    "another master key": (
        lambda shell, _: shell.set(MASTER_KEYS="k1:" + "A" * 43 + "="),
        "master keys",
        "failed",
        "GATEWAY_MASTER_KEYS: these tokens don't open with the master keys that are here: store",
    ),
    "another master key for the gateway's own keys": (
        lambda shell, _: seal_otherwise(shell),
        "master keys",
        "failed",
        "GATEWAY_MASTER_KEYS: these keys of the gateway's own don't open with the master keys that are here: ticket-signing",
    ),
    "no configuration file": (
        lambda _, folder: (folder / "gateway.yaml").unlink(),
        "configuration file",
        "failed",
        "can't be read: No such file",
    ),
    "no secret": (
        lambda _, folder: (folder / "shop.value").unlink(),
        "configuration file",
        "failed",
        "gateway.yaml:3: tokens[0].value.file: the file can't be read: No such file or directory",
    ),
    "a clash": (
        lambda *_: administer(lambda ada: ada.add_caller(NewCaller("order-service"))),
        "configuration file",
        "failed",
        "gateway.yaml:5: callers[0]: a caller named order-service was added otherwise",
    ),
    "a value that is held": (
        lambda _, folder: (folder / "shop.value").write_text(f"{CANARY}2"),
        "configuration file",
        "failed",
        "tokens[0]: its value is held by the token store already",
    ),
    "no certificate": (
        lambda shell, folder: shell.set(TLS_CERT=f"{folder}/tls.crt", TLS_KEY=f"{folder}/tls.key"),
        "certificate",
        "failed",
        "tls.crt can't be read: No such file or directory",
    ),
    "a certificate that ends soon": (
        lambda shell, folder: shell.set(**certified(folder)),
        "certificate",
        "warning",
        "tls.crt can be served with; it expires ",
    ),
    "a folder for a spool": (
        lambda shell, _: (shell.state_dir / "audit.spool").mkdir(),
        "audit spool",
        "failed",
        "audit.spool can't be used: it is no file that can be written",
    ),
    "a spool that leads elsewhere": (
        lambda shell, folder: (shell.state_dir / "audit.spool").symlink_to(folder / "elsewhere"),
        "audit spool",
        "failed",
        "audit.spool can't be used",
    ),
    "a stream into no folder": (
        lambda shell, folder: shell.set(AUDIT_STREAM=f"file:{folder}/missing/audit.jsonl"),
        "audit stream",
        "failed",
        "missing is no folder that can be written",
    ),
    "a stream into a folder": (
        lambda shell, folder: shell.set(AUDIT_STREAM=f"file:{folder}"),
        "audit stream",
        "failed",
        "can't be written: it is no file that can be written",
    ),
    "no program for anchors": (
        lambda shell, folder: shell.set(AUDIT_ANCHOR_COMMAND=f"{folder}/keep --bucket audit"),
        "audit anchor command",
        "warning",
        "GATEWAY_AUDIT_ANCHOR_COMMAND: there is no program ",
    ),
    "no folder for archives": (
        lambda shell, folder: shell.set(AUDIT_ARCHIVE_DIR=f"{folder}/missing"),
        "audit archive",
        "warning",
        "missing is no folder that can be written; nothing would be removed",
    ),
    "a port in use": (
        lambda shell, _: shell.set(PORT=os.environ["GATEWAY_UPSTREAM_URL"].rpartition(":")[2]),
        "address",
        "failed",
        "can't be listened on: Address already in use",
    ),
    "an upstream that can't be": (
        lambda shell, _: shell.set(UPSTREAM_URL="https://a..b/"),
        "upstream",
        "failed",
        "a..b:443: this is no host's name",
    ),
    "no upstream": (lambda shell, _: shell.set(UPSTREAM_URL=f"http://127.0.0.1:{free_port()}"), "upstream", "failed", "127.0.0.1:"),
    "no provider": (lambda shell, _: shell.set(OIDC_ISSUER=f"http://127.0.0.1:{free_port()}"), "identity provider", "failed", "127.0.0.1:"),
}


def seal_otherwise(shell: Shell) -> None:
    """Have a key of the gateway's own that another master key sealed, as after a restore of half a backup."""
    sealed = Keyring({"k0": bytes(32)}).seal(bytes(32), TICKET_SIGNING)
    with closing(sqlite3.connect(shell.state_dir / "gateway.db")) as connection:
        connection.execute("INSERT INTO sealed_keys VALUES (?, ?, ?, ?)", (TICKET_SIGNING, "k0", sealed.nonce, sealed.ciphertext))
        connection.commit()


def execute(shell: Shell, *statements: str) -> None:
    """Change the database by hand."""
    with closing(sqlite3.connect(shell.state_dir / "gateway.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def certified(folder: Path) -> dict[str, str]:
    """The settings of a certificate that is good for a day."""
    cert, key = Authority(folder).make(folder / "pair", "gateway")
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}


def make_newer(shell: Shell, needs: str) -> None:
    """Have the database be of a newer version, for code that knows a revision."""
    execute(shell, "UPDATE alembic_version SET version_num = '9999'", f"UPDATE schema_needs SET revision = '{needs}'")  # noqa: S608


def make_older(shell: Shell) -> None:
    """Take the newest migrations back."""
    columns = {
        "tokens": ["declared"],
        "callers": ["enabled", "declared", "networks", "origins", "claims"],
        "caller_keys": ["expires_at", "last_used_at"],
    }
    drops = [f"ALTER TABLE {table} DROP COLUMN {column}" for table, names in columns.items() for column in names]
    drops += [f"DROP TABLE {name}" for name in ("job_parts", "jobs", "idempotency", "bookmarks", "schema_needs")]
    drops += [f"DROP TABLE audit_{name}" for name in ("records", "ids", "chains", "checkpoints", "tombstones")]
    execute(
        shell,
        *drops,
        "CREATE TABLE audit_records (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, request_id TEXT)",
        "CREATE INDEX ix_audit_records_request_id ON audit_records (request_id)",
        "UPDATE alembic_version SET version_num = '0002'",
    )


@pytest.mark.parametrize("what", SPOILED)
def test_what_doesnt_hold_is_found(ready: Shell, tmp_path: Path, what: str) -> None:
    """What would stop a start, or the first call, is told in the check's line, ends with status 1, and changes nothing."""
    spoil, name, status, text = SPOILED[what]
    spoil(ready, tmp_path)
    before = contents(ready.state_dir)

    told = found(ready)

    assert list(told) == NAMES
    assert told[name][0] == status
    assert text in told[name][1]
    assert {one for one, (ended, _) in told.items() if ended not in {"ok", "skipped"}} == {name}
    assert contents(ready.state_dir) == before


def test_what_the_record_needs_is_there(ready: Shell, tmp_path: Path) -> None:
    """Where the stream goes, which program is run and where archives come to lie is said, and none of it is touched or made."""
    (tmp_path / "archive").mkdir()
    (ready.state_dir / "audit.spool").write_bytes(bytes(8 * 1_024 * 1_024))
    ready.set(AUDIT_STREAM=f"file:{tmp_path}/audit.jsonl", AUDIT_ANCHOR_COMMAND="sh -c cat", AUDIT_ARCHIVE_DIR=f"{tmp_path}/archive")

    told = found(ready)

    assert told["audit spool"] == ("ok", f"{ready.state_dir}/audit.spool has its room")
    assert told["audit stream"] == ("ok", f"{tmp_path}/audit.jsonl would be made")
    assert told["audit anchor command"] == ("ok", shutil.which("sh"))
    assert told["audit archive"] == ("ok", f"{tmp_path}/archive can be written")
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_disk_without_room_for_the_spool_is_found() -> None:
    """The spool's room is asked for at the start; this file system never has any."""
    status, text = RECORD_CHECKS["audit spool"](settings_for(Path("/proc/gateway")))

    assert status == "failed"
    assert text.endswith("audit.spool can't be made: it needs 8388608 bytes, and 0 are free")


ON_THE_NETWORK = {"address", "upstream", "identity provider"}
STOPPING = [what for what, (_, name, status, _) in SPOILED.items() if status == "failed" and name not in ON_THE_NETWORK]


@pytest.mark.parametrize("what", STOPPING)
def test_what_fails_stops_a_start(ready: Shell, tmp_path: Path, listening: int, what: str) -> None:
    """Each fault of the state or the settings that `check` finds, but for those on the network, makes `serve` refuse to start."""
    SPOILED[what][0](ready, tmp_path)

    checked = ready("check", "--offline")
    # On a port that is in use: a start that wrongly goes well ends all the same, though with another status than a refusal.
    served = ready("serve", "--port", str(listening))

    assert checked.status == 1
    assert (served.status, served.out) == (2, "")


def test_what_a_file_declared_is_told_where_there_is_none(ready: Shell, tmp_path: Path, listening: int) -> None:
    """Without the configuration file that it came from, nobody can change it."""
    with started("serve", variables=environment_of(ready, listening, tmp_path), folder=tmp_path / "serve") as gateway:
        gateway.wait_for_line("starting to serve")
        gateway.stop()
    ready.set(CONFIG_FILE="")

    told = found(ready)["configuration file"]

    assert told == ("warning", "none, though one declared these, which only a file can change: shop, order-service")


def environment_of(shell: Shell, upstream: int, folder: Path, port: int = 0) -> dict[str, str]:
    """What a gateway's process is given, to serve from a shell's state folder."""
    return environment(
        STATE_DIR=shell.state_dir, UPSTREAM_URL=f"http://127.0.0.1:{upstream}", CONFIG_FILE=folder / "gateway.yaml", PORT=port
    )


@pytest.mark.parametrize("index", [True, False], ids=["with an index", "without one"])
def test_after_a_crash_not_a_byte_is_touched(ready: Shell, listening: int, tmp_path: Path, index: bool) -> None:  # noqa: FBT001 - a parameter of the test's
    """What a killed gateway left, its log above all, is read where it lies; no file is made, changed or has another time after."""
    variables = environment_of(ready, listening, tmp_path)
    with started("serve", variables=variables, folder=tmp_path / "serve") as gateway:
        gateway.wait_for_line("starting to serve")
        gateway.process.kill()
        gateway.process.wait(30)
    if not index:
        (ready.state_dir / "gateway.db-shm").unlink()
    before = contents(ready.state_dir)

    checked = run("check", variables=variables)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "declares 1 tokens and 1 callers; would change: nothing" in checked.stdout
    assert "gateway.db-wal" in before
    assert contents(ready.state_dir) == before


def test_it_works_beside_a_running_server(ready: Shell, listening: int, tmp_path: Path) -> None:
    """A gateway that serves from the state folder is no fault, its port in use neither, and it goes on serving."""
    port = free_port()
    variables = environment_of(ready, listening, tmp_path, port)
    with started("serve", variables=variables, folder=tmp_path / "serve") as gateway:
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")
        checked = run("check", variables=variables)
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")
        status = gateway.stop()

    assert (checked.returncode, checked.stderr, status) == (0, "", 0)
    assert f"ok       address: 127.0.0.1:{port} is in use; a gateway serves from this state folder" in checked.stdout
    assert "declares 1 tokens and 1 callers; would change: nothing" in checked.stdout
