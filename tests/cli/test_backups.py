"""Backups as docs/operations.md tells to make them: each is put back, and proven."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests import loopback
from tests.servers.postgres import Postgres

from .processes import free_port, run, started, unmeasured
from .test_postgresql import admit, serving

CONFLICT = "orderIds=1&channelIds=2"
"""A call that is refused, and so has a record of its own, with nothing sent."""


def refused_call(url: str, key: str) -> None:
    """Have the running gateway write a record."""
    answer = loopback.request("PATCH", f"{url}/orders/link?{CONFLICT}", headers={"X-API-TOKEN": key})
    assert answer.status_code == httpx2.codes.BAD_REQUEST


def verified(variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    """How `audit verify` ends, and what it says at last, after its notes on what no checkpoint covers yet."""
    ran = run("audit", "verify", *arguments, variables=variables)
    return ran.returncode, ran.stdout.splitlines()[-1].partition(":")[0]


def put_back(variables: dict[str, str], folder: Path, key: str) -> None:
    """What was restored must open the tokens, serve its callers, and hold with what it adds."""
    checked = run("check", "--offline", variables=variables)
    assert (checked.returncode, verified(variables)) == (0, (0, "all holds")), checked.stdout
    with serving(variables, folder) as (gateway, url):
        refused_call(url, key)
        assert gateway.stop() == 0
    assert verified(variables) == (0, "all holds")


def test_a_copy_of_a_served_sqlite_database_is_put_back(tmp_path: Path) -> None:
    """What `VACUUM INTO` wrote beside a running gateway holds and serves, with the master keys; a later anchor tells what it lacks."""
    state, restored = tmp_path / "state", tmp_path / "restored"
    restored.mkdir(mode=0o700)
    variables = unmeasured(STATE_DIR=state)
    key = admit(variables, tmp_path)
    with serving(variables, tmp_path / "serving") as (gateway, url):
        refused_call(url, key)
        with closing(sqlite3.connect(state / "gateway.db")) as connection:
            connection.execute("VACUUM INTO ?", (str(restored / "gateway.db"),))
        refused_call(url, key)
        assert gateway.stop() == 0
    run("audit", "anchor", "--output", str(tmp_path / "anchors"), variables=variables)
    shutil.copy2(state / "master.keys", restored)
    after = unmeasured(STATE_DIR=restored)
    lacking = verified(after, "--anchor", str(tmp_path / "anchors"))
    put_back(after, tmp_path / "again", key)

    assert lacking[0] == 1


@pytest.mark.parametrize("killed", [False, True])
def test_a_copy_of_a_state_folder_is_put_back(tmp_path: Path, killed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The whole folder of a gateway that ended is a backup, also where it was killed and the write-ahead log holds the newest."""
    variables = unmeasured(STATE_DIR=tmp_path / "state")
    key = admit(variables, tmp_path)
    port = free_port()
    with started("serve", "--port", str(port), variables=variables, folder=tmp_path / "serving") as gateway:
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")
        refused_call(f"http://127.0.0.1:{port}", key)
        (gateway.process.kill if killed else gateway.process.terminate)()
        gateway.process.wait()
    ignored = shutil.ignore_patterns("control.sock")
    shutil.copytree(tmp_path / "state", tmp_path / "restored", ignore=ignored)

    put_back(unmeasured(STATE_DIR=tmp_path / "restored"), tmp_path / "again", key)


def test_a_dump_of_a_served_postgresql_database_is_put_back(postgres_server: Postgres, tmp_path: Path) -> None:
    """What `pg_dump` wrote beside a running gateway holds and serves, with the master keys; a later anchor tells what it lacks."""
    keys = {"GATEWAY_MASTER_KEYS": f"k1:{'A' * 43}="}
    address = postgres_server.new_database()
    variables = unmeasured(STATE_DIR=tmp_path / "state", DATABASE_URL=address) | keys
    key = admit(variables, tmp_path)
    with serving(variables, tmp_path / "serving") as (gateway, url):
        refused_call(url, key)
        postgres_server.dump(address, tmp_path / "gateway.dump")
        refused_call(url, key)
        assert gateway.stop() == 0
    run("audit", "anchor", "--output", str(tmp_path / "anchors"), variables=variables)
    restored = postgres_server.restore(tmp_path / "gateway.dump")
    after = unmeasured(STATE_DIR=tmp_path / "restored", DATABASE_URL=restored) | keys
    lacking = verified(after, "--anchor", str(tmp_path / "anchors"))
    put_back(after, tmp_path / "again", key)

    assert lacking[0] == 1
