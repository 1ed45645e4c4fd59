"""`audit prune`: says what would go, asks, removes, and names what it can't vouch for."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.cli import main
from tests.audit.past import Past, archived, past

from .processes import REPOSITORY, command, environment, run, until
from .shell import Ran, Shell

T = TypeVar("T")


def on(folder: Path, work: Callable[[Past], Awaitable[T]]) -> T:
    """Do something with a state folder."""

    async def opened() -> T:
        async with past(folder) as house:
            return await work(house)

    return asyncio.run(opened())


def day(days: int) -> str:
    """The date so many days ago, UTC."""
    return (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


@pytest.fixture
def chain(shell: Shell) -> str:
    """The one old chain of the shell's state."""
    return on(shell.state_dir, lambda house: house.write(30))


def count(shell: Shell, chain: str) -> int:
    """How many of a chain's records are there."""
    with closing(sqlite3.connect(shell.state_dir / "gateway.db")) as connection:
        found: tuple[int] = connection.execute("SELECT count(*) FROM audit_records WHERE chain = ?", (chain,)).fetchone()
        return found[0]


def test_a_dry_run_only_says_what_would_go(shell: Shell, chain: str) -> None:
    """Chain, places and number of what would be removed; and it is all there afterwards."""
    told = shell("audit", "prune", "--before", day(20), "--dry-run")

    assert told.status == 0
    assert [line.split() for line in told.out.splitlines()[1:]] == [[chain, "1", "11", "11"], ["11", "records", "would", "be", "removed"]]
    assert count(shell, chain) == 11


def test_what_is_old_is_removed_and_told(shell: Shell, chain: str) -> None:
    """Without a terminal nothing is asked; programs are told in JSON, and a second run finds nothing left."""
    document = shell("audit", "prune", "--before", day(20), "--json").document
    again = shell("audit", "prune", "--before", day(20))

    removed = {"chain": chain, "first": 1, "last": 11, "records": 11, "file": None, "sha256": None}
    assert document == {"removed": [removed], "spared": []}
    assert count(shell, chain) == 0
    assert (again.status, again.out) == (0, "nothing removed\n")
    on(shell.state_dir, assert_proven)


async def assert_proven(house: Past) -> None:
    """The rest is proven."""
    house.assert_proven()


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        """It is a terminal."""
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, *arguments: str) -> Ran:
    """Run a command at a terminal."""
    monkeypatch.setattr(sys, "argv", ["flxpoint-gateway", *arguments])
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    streams = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return Ran(ended.value.code, streams.out, streams.err)


@pytest.mark.parametrize(("typed", "options", "left"), [("n\n", (), 11), ("y\n", (), 0), ("", ("--yes",), 0)])
def test_at_a_terminal_it_asks(  # noqa: PLR0913, PLR0917 - fixtures
    shell: Shell,
    chain: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    options: tuple[str, ...],
    left: int,
) -> None:
    """Removing can't be undone: without a yes, typed or given, everything stays."""
    ran = at_terminal(monkeypatch, capsys, typed, "audit", "prune", "--before", day(20), *options)

    assert ran.status == (1 if left else 0)
    assert ("Remove 11 records of 1 chains for good?" in ran.out) == (not options)
    assert count(shell, chain) == left


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("yesterday", "parameter-invalid: --before takes a date or a time in ISO 8601"),
        ("2999-01-01", "parameter-invalid: --before lies in the future"),
        ("0001-01-01T00:00+14:00", "parameter-invalid: --before takes a date or a time in ISO 8601"),
    ],
)
def test_a_date_must_be_one_that_has_come(shell: Shell, chain: str, before: str, said: str) -> None:
    """A slip of the pen removes nothing."""
    ran = shell("audit", "prune", "--before", before, "--yes")

    assert ran.status == 1
    assert ran.err.startswith(said)
    assert count(shell, chain) == 11


def test_a_chain_that_was_tampered_with_is_named(shell: Shell, chain: str) -> None:
    """Nothing of it is removed, the others go, and the command ends with 1."""
    other = on(shell.state_dir, lambda house: house.write(30))

    async def tamper(house: Past) -> None:
        house.edit("DELETE FROM audit_records WHERE chain = ? AND seq = 3", chain)

    on(shell.state_dir, tamper)
    ran = shell("audit", "prune", "--before", day(20), "--yes")

    assert ran.status == 1
    assert ran.err == f"conflict: nothing of chain {chain} is removed: record missing after 2\n"
    assert (count(shell, chain), count(shell, other)) == (10, 0)


def test_an_archive_that_cant_be_written_stops_it(shell: Shell, chain: str) -> None:
    """The setting is named, and nothing is removed; once it is there, the archive is told."""
    folder = shell.state_dir / "archive"
    shell.set(AUDIT_ARCHIVE_DIR=str(folder))
    refused = shell("audit", "prune", "--before", day(20), "--yes")
    left = count(shell, chain)
    folder.mkdir()
    ran: dict[str, Any] = shell("audit", "prune", "--before", day(20), "--yes", "--json").document

    assert refused.status == 2
    assert refused.err.startswith("GATEWAY_AUDIT_ARCHIVE_DIR: the archive can't be written, so what isn't in it stays: ")
    assert left == 11
    assert ran["removed"][0]["file"] in archived(folder)


def test_a_prune_that_is_killed_is_taken_up(shell: Shell, tmp_path: Path) -> None:
    """Killed while records are removed, it leaves a tombstone and some of them; the next one removes these."""
    chain = on(shell.state_dir, lambda house: house.write(30, records=3_000))
    (folder := tmp_path / "archive").mkdir()
    variables = environment(STATE_DIR=shell.state_dir, AUDIT_ARCHIVE_DIR=folder)
    arguments = ("audit", "prune", "--before", day(20), "--yes", "--json")
    with subprocess.Popen(
        command(*arguments), env=variables, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as killed:
        until(lambda: count(shell, chain) < 3_001)
        killed.send_signal(signal.SIGKILL)
    left = count(shell, chain)
    resumed = json.loads(run(*arguments, variables=variables).stdout)

    assert 0 < left < 3_001
    assert resumed == {"removed": [], "spared": []}
    assert count(shell, chain) == 0
    assert [len(lines) for lines in archived(folder).values()] == [3_001]
    on(shell.state_dir, assert_proven)
