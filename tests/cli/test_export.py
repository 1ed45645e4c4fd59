"""`audit export`: everything that is asked for, or nothing that could be taken for it."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.audit import Format, Stored
from app.audit.export import COLUMNS
from tests.audit.shelf import made, put_away

from .processes import REPOSITORY, command, environment
from .shell import Shell

COUNT = 2_500


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds 2,500 records, every tenth of which is of the caller `a`."""
    assert shell("db", "upgrade").status == 0
    records = [made(number, caller="b" if number % 10 else "a", reason=f"=r{number}") for number in range(1, COUNT + 1)]
    put_away(shell.state_dir / "gateway.db", records)
    return shell


def bodies(shell: Shell) -> list[str]:
    """What is stored, oldest first."""
    connection = sqlite3.connect(shell.state_dir / "gateway.db")
    found = [body for (body,) in connection.execute("SELECT body FROM audit_records ORDER BY number")]
    connection.close()
    return found


def test_lines_are_what_is_stored(shell: Shell) -> None:
    """JSON Lines on standard output, oldest first, byte for byte."""
    ran = shell("audit", "export")

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == bodies(shell)


def test_a_file_has_what_was_asked_for(shell: Shell, tmp_path: Path) -> None:
    """CSV with its heading, only of the records that are wanted, in a file of its owner's alone; beside it nothing is left."""
    target = tmp_path / "out" / "record.csv"
    target.parent.mkdir()
    target.write_text("an older export", encoding="utf-8")
    ran = shell("audit", "export", "--format", "csv", "--output", str(target), "--caller", "a")

    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (ran.status, ran.out, ran.err) == (0, f"exported 250 records to {target}\n", "")
    assert list(rows[0]) == list(COLUMNS)
    assert [int(row["number"]) for row in rows] == list(range(10, COUNT + 1, 10))
    assert {row["reason"][:3] for row in rows} == {"'=r"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(("form", "written"), [("jsonl", ""), ("csv", ",".join(COLUMNS) + "\r\n")])
def test_nothing_is_a_complete_file_too(shell: Shell, form: str, written: str) -> None:
    """Where nothing is wanted there is a heading, if the format has one."""
    ran = shell("audit", "export", "--format", form, "--caller", "nobody", "--since", "2026-01-01", "--until", "2026-01-01")

    assert (ran.status, ran.out, ran.err) == (0, written, "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_is_interrupted_leaves_nothing(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    """Ctrl-C, an end by a supervisor or by a lost terminal: the file that was there before is there still, and no half one."""
    target = tmp_path / "out" / "record.jsonl"
    target.parent.mkdir()
    target.write_text("an older export", encoding="utf-8")

    def interrupted(_form: Format, records: Iterator[Stored]) -> bytes:
        first = next(iter(records))
        if first.number > 1:
            signal.raise_signal(number)
        return first.body

    monkeypatch.setattr("app.cli.export.rendered", interrupted)
    ran = shell("audit", "export", "--output", str(target))

    assert (ran.status, ran.out, ran.err) == (status, "", "")
    assert target.read_text(encoding="utf-8") == "an older export"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("target", ["missing/record.jsonl", "."])
def test_a_file_that_cant_be_written_is_told(shell: Shell, tmp_path: Path, target: str) -> None:
    """In one line, with status 2, and nothing is left beside it."""
    before = set(tmp_path.iterdir())
    ran = shell("audit", "export", "--output", str(tmp_path / target))

    assert ran.status == 2
    assert "can't be written" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_pipe_is_written_to(shell: Shell, tmp_path: Path, name: str) -> None:
    """What is no file isn't replaced by one, whether it is named itself or by a link; whoever reads it gets the export."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        ran = shell("audit", "export", "--output", str(tmp_path / name))

    assert (ran.status, ran.err) == (0, "")
    assert read.result().decode().splitlines() == bodies(shell)
    assert (tmp_path / "pipe").is_fifo()


def test_a_pipe_whose_reader_goes_is_told(shell: Shell, tmp_path: Path) -> None:
    """In one line, with status 2."""
    os.mkfifo(tmp_path / "pipe")

    def read_a_bit() -> None:
        with (tmp_path / "pipe").open("rb", buffering=0) as file:
            file.read(1)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(read_a_bit)
        ran = shell("audit", "export", "--output", str(tmp_path / "pipe"))

    assert (ran.status, ran.out, ran.err) == (2, "", f"{tmp_path / 'pipe'} can't be written: Broken pipe\n")


def test_where_a_link_leads_is_replaced(shell: Shell, tmp_path: Path) -> None:
    """The link stays, and the file that it names is the export, whether or not there was one."""
    target = tmp_path / "out" / "record.jsonl"
    target.parent.mkdir()
    (tmp_path / "link").symlink_to(target)
    for _ in range(2):
        assert shell("audit", "export", "--output", str(tmp_path / "link")).status == 0
        assert target.read_text(encoding="utf-8").splitlines() == bodies(shell)
        target.write_text("an older export", encoding="utf-8")

    assert (tmp_path / "link").readlink() == target
    assert list(target.parent.iterdir()) == [target]


def exporting(shell: Shell, *options: str, **streams: Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    variables = environment(STATE_DIR=shell.state_dir)
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen(command("audit", "export", *options), env=variables, cwd=REPOSITORY, **given)


def test_a_reader_that_goes_ends_it_quietly(shell: Shell) -> None:
    """As after `| head`: no traceback, and the status that a shell gives for a broken pipe."""
    with exporting(shell) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["number"] == 1
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (141, b"")


def test_a_signal_that_is_ignored_stays_so(shell: Shell) -> None:
    """Under `nohup` the end of the terminal isn't the export's."""
    with exporting(shell, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"{"
        process.send_signal(signal.SIGHUP)
        rest = process.stdout.read()

    assert process.returncode == 0
    assert (b"{" + rest).decode().splitlines() == bodies(shell)


def test_ctrl_c_ends_it_while_nobody_reads(shell: Shell) -> None:
    """One is enough, though the pipe is full and its reader rests."""
    with exporting(shell) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(1) == b"{"
        process.send_signal(signal.SIGINT)
        status = process.wait(30)
        said = process.stderr.read()

    assert (status, said) == (130, b"")


def test_a_full_disk_leaves_nothing(shell: Shell, tmp_path: Path) -> None:
    """A file that can't grow is told in one line, and removed."""
    target = tmp_path / "out" / "record.jsonl"
    target.parent.mkdir()
    # The folder's other files are smaller than that, and the signal for a file too large is ignored by Python.
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))}
    with exporting(shell, "--output", str(target), **limited) as process:
        assert process.stderr
        said = process.stderr.read().decode()

    # What measures the tests' coverage can't write its own file either, and says so behind it.
    assert (process.returncode, said.splitlines()[0]) == (2, f"{target} can't be written: File too large")
    assert list(target.parent.iterdir()) == []


def test_a_terminal_sees_how_far_it_is(shell: Shell) -> None:
    """A bar on standard error, where that is a terminal; the output holds nothing of it."""
    master, slave = os.openpty()
    with exporting(shell, stderr=slave) as process:
        os.close(slave)
        assert process.stdout
        out = process.stdout.read()
    shown = os.read(master, 65_536)
    os.close(master)

    assert process.returncode == 0
    assert out.decode().splitlines() == bodies(shell)
    assert b"exporting" in shown
