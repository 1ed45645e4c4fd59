"""Reading a record that isn't this gateway's own: an older version's, a copy on a medium that can't be written, or none at all."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .processes import REPOSITORY, command, environment
from .shell import Shell

READING = [("list",), ("list", "--json"), ("list", "--follow"), ("show", "1"), ("export",)]
PROVING = [("verify",), ("anchor",), ("key",)]


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds two changes, and so three records."""
    assert shell("token", "add", "shop", "--kind", "account", given="a-simulated-token-value-0001").status == 0
    assert shell("token", "disable", "shop").status == 0
    return shell


def content(folder: Path) -> dict[str, str]:
    """The files of a folder, each with its digest."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_where_there_is_no_database_nothing_is_read(shell_of: Callable[[Path], Shell], tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A slip in the state folder's name is told as one, not as a record in which nothing stands; no file is made, and no folder."""
    ran = shell_of(tmp_path / "none")("audit", *arguments)

    assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert ran.err.startswith("GATEWAY_STATE_DIR: there is no database at ")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_another_schema_is_left_as_it_is(shell: Shell, arguments: tuple[str, ...]) -> None:
    """A database of another version isn't brought to this one by reading it: a server of that version may be running on it."""
    with closing(sqlite3.connect(shell.state_dir / "gateway.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0003'")
    before = content(shell.state_dir)["gateway.db"]
    ran = shell("audit", *arguments)

    assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert "schema 0003" in ran.err
    assert "db upgrade" in ran.err
    assert content(shell.state_dir)["gateway.db"] == before


@pytest.fixture
def medium(shell: Shell, tmp_path: Path) -> list[str]:
    """What runs a command in a mount namespace in which the state folder is a copy on a read-only file system."""
    folder = tmp_path / "medium"
    shutil.copytree(shell.state_dir, folder)
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}"'
    if shutil.which("unshare") is None or subprocess.run([*unshare, mount], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here, not even in a namespace")
    return [*unshare, f'{mount} && ! touch "{folder}/touched" 2>/dev/null && exec "$@"', "sh"]


@pytest.mark.parametrize("arguments", [one for one in [*READING, *PROVING] if "--follow" not in one], ids=" ".join)
def test_a_copy_that_cant_be_written_is_read_and_proven(
    shell: Shell, medium: list[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """On a read-only medium each command says what it says of the original."""
    variables = environment(STATE_DIR=tmp_path / "medium")
    said = subprocess.run(
        [*medium, *command("audit", *arguments)], env=variables, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )
    there = shell("audit", *arguments)

    assert (said.returncode, said.stdout, said.stderr) == (0, there.out, "")


def test_a_log_that_would_be_left_out_is_told(shell: Shell, medium: list[str], tmp_path: Path) -> None:
    """A copy that has its newest records in the log beside it, on such a medium, isn't read without them."""
    with closing(sqlite3.connect(shell.state_dir / "gateway.db", isolation_level=None)) as connection:
        connection.execute("UPDATE revision SET number = number + 1")
        shutil.copyfile(shell.state_dir / "gateway.db-wal", tmp_path / "medium" / "gateway.db-wal")
    variables = environment(STATE_DIR=tmp_path / "medium")
    said = subprocess.run(
        [*medium, *command("audit", "list")], env=variables, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )

    assert (said.returncode, said.stdout, len(said.stderr.splitlines())) == (2, "", 1)
    assert "gateway.db-wal" in said.stderr
