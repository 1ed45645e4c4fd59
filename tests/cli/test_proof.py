"""The commands that prove the record, on the state that other commands and a gateway made."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .processes import REPOSITORY, command, environment
from .shell import Ran, Shell

VALUE = "a-simulated-token-value-0001"


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds two changes, and so three records."""
    assert shell("token", "add", "shop", "--kind", "account", given=VALUE).status == 0
    assert shell("token", "disable", "shop").status == 0
    return shell


def edit(shell: Shell, query: str) -> None:
    """Edit the database by hand."""
    with closing(sqlite3.connect(shell.state_dir / "gateway.db", isolation_level=None)) as connection:
        assert connection.execute(query).rowcount


def altered(shell: Shell) -> None:
    """Edit a record."""
    edit(shell, "UPDATE audit_records SET body = replace(body, 'shop', 'shoq') WHERE number = 2")


def test_a_record_that_holds(shell: Shell) -> None:
    """`audit verify` says how much it verified, and ends with status 0."""
    assert shell("audit", "verify") == Ran(0, "all holds: 3 records in 1 chains\n", "")


def test_a_record_that_was_altered(shell: Shell) -> None:
    """It says what and where, and ends with status 1."""
    altered(shell)
    ran = shell("audit", "verify")

    assert ran.status == 1
    first, last = ran.out.splitlines()
    assert first.startswith("WRONG  record-altered: chain administration, seq 2, number 2, ID ")
    assert last == "NOT PROVEN: 1 findings in 3 records in 1 chains"


def test_findings_for_programs(shell: Shell) -> None:
    """With `--json` it is one document, with the same status."""
    good = shell("audit", "verify", "--json").document
    altered(shell)
    bad = shell("audit", "verify", "--json")

    assert good == {"holds": True, "records": 3, "chains": 1, "anchors": 0, "failures": [], "notes": [], "more": 0}
    assert bad.status == 1
    (failure,) = json.loads(bad.out)["failures"]
    assert (failure["kind"], failure["chain"], failure["seq"]) == ("record-altered", "administration", 2)


def test_the_number_of_lines_is_bounded(shell: Shell) -> None:
    """However much is wrong, fifty findings are printed and the others counted."""
    for _ in range(30):
        shell("token", "enable", "shop")
        shell("token", "disable", "shop")
    edit(shell, "UPDATE audit_records SET hash = zeroblob(32)")
    lines = shell("audit", "verify").out.splitlines()

    assert len(lines) == 52
    assert lines[-2].startswith("… and ")


def test_where_there_is_no_database_nothing_is_made(shell_of: Callable[[Path], Shell], tmp_path: Path) -> None:
    """Each command says so and leaves no file, and no folder."""
    shell = shell_of(tmp_path / "none")

    for name in ("verify", "anchor", "key"):
        ran = shell("audit", name)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("GATEWAY_STATE_DIR: there is no database at ")
    assert not (tmp_path / "none").exists()


def test_an_older_schema_is_left_as_it_is(shell: Shell) -> None:
    """A database of another version isn't brought to this one by reading it."""
    edit(shell, "UPDATE alembic_version SET version_num = '0001'")
    ran = shell("audit", "verify")

    assert ran.status == 2
    assert "schema 0001" in ran.err
    assert "db upgrade" in ran.err


def test_the_public_key_suffices(shell: Shell, tmp_path: Path) -> None:
    """Who has `audit key`'s output needs no master key; another key isn't believed, nor a file that holds none."""
    (tmp_path / "key.pem").write_text(shell("audit", "key").out)
    known = shell("audit", "key", "--json").document
    (shell.state_dir / "master.keys").unlink()

    assert shell("audit", "verify").status == 2
    assert shell("audit", "verify", "--key", str(tmp_path / "key.pem")).status == 0
    assert known["pem"] in (tmp_path / "key.pem").read_text()
    assert (tmp_path / "key.pem").read_text().startswith(f"key {known['id']}\n")
    (tmp_path / "none.pem").write_text("nothing")
    assert shell("audit", "verify", "--key", str(tmp_path / "none.pem")).status == 2
    assert not (shell.state_dir / "master.keys").exists()


def test_a_key_of_somebody_else_is_not_believed(shell: Shell, shell_of: Callable[[Path], Shell], tmp_path: Path) -> None:
    """What it didn't sign is named `key-unknown`."""
    own = shell.state_dir
    other = shell_of(tmp_path / "other")
    other("token", "add", "shop", "--kind", "account", given=VALUE)
    (tmp_path / "other.pem").write_text(other("audit", "key").out)
    shell.set(STATE_DIR=str(own))
    ran = shell("audit", "verify", "--key", str(tmp_path / "other.pem"))

    assert ran.status == 1
    assert ran.out.count("key-unknown") == 2


def test_an_old_copy_is_found_with_an_anchor(shell: Shell, tmp_path: Path) -> None:
    """The anchor was written before the copy was put back; without one the copy holds."""
    database = shell.state_dir / "gateway.db"
    old = database.read_bytes()
    shell("token", "enable", "shop")
    assert shell("audit", "anchor", "--output", str(tmp_path / "anchors")) == Ran(0, "", "")
    (line,) = (tmp_path / "anchors").read_text().splitlines()
    known = shell("audit", "verify", "--anchor", str(tmp_path / "anchors"))
    database.write_bytes(old)
    ran = shell("audit", "verify", "--anchor", str(tmp_path / "anchors"))

    assert known == Ran(0, "all holds: 4 records in 1 chains against 1 anchors\n", "")
    assert shell("audit", "verify").status == 0
    assert shell("audit", "anchor").out != line + "\n"
    assert ran.status == 1
    assert "chain-cut: chain administration, seq 4" in ran.out


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "can't be read: "),
        ("no anchor\n", "can't be read: line 1 isn't an anchor"),
        ("", "holds no anchor"),
        ("\n\n", "holds no anchor"),
    ],
)
def test_a_file_without_anchors_is_refused(shell: Shell, tmp_path: Path, content: str | None, text: str) -> None:
    """One that can't be read, or that an interrupted command left empty, proves nothing, and nobody is told that all holds."""
    if content is not None:
        (tmp_path / "anchors").write_text(content)
    ran = shell("audit", "verify", "--anchor", str(tmp_path / "anchors"))

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"--anchor: {tmp_path / 'anchors'} {text}")


def test_anchors_are_counted_for_programs(shell: Shell, tmp_path: Path) -> None:
    """Files of several times, put together into one, are compared line by line, and `--json` says how many lines that were."""
    first = shell("audit", "anchor").out
    shell("token", "enable", "shop")
    (tmp_path / "anchors").write_text(first + "\n" + shell("audit", "anchor").out)

    assert shell("audit", "verify", "--json", "--anchor", str(tmp_path / "anchors")).document["anchors"] == 2


def test_written_anchors_take_the_place_of_others_when_they_are_whole(shell: Shell, tmp_path: Path) -> None:
    """Those that were there are never cut short: the new ones are written beside them."""
    path = tmp_path / "kept" / "anchors"
    path.parent.mkdir()
    shell("audit", "anchor", "--output", str(path))
    before = path.read_text()
    with path.open() as old:
        shell("token", "enable", "shop")
        shell("audit", "anchor", "--output", str(path))

        assert old.read() == before
    assert path.read_text() == shell("audit", "anchor").out != before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_of_archives_must_be_there(shell: Shell, tmp_path: Path) -> None:
    """A slip of the pen isn't taken for an empty folder."""
    assert shell("audit", "verify", "--archive", str(tmp_path / "none")).status == 2


def test_anchors_that_can_not_be_written(shell: Shell, tmp_path: Path) -> None:
    """It is said in one line, with status 2."""
    ran = shell("audit", "anchor", "--output", str(tmp_path / "none" / "anchors"))

    assert (ran.status, ran.err) == (2, f"{tmp_path / 'none' / 'anchors'} can't be written: No such file or directory\n")


@pytest.mark.parametrize(
    "edit_",
    [
        "UPDATE sealed_keys SET nonce = 3000000000 WHERE name = 'checkpoint-signing'",
        "UPDATE sealed_keys SET sealed = -1 WHERE name = 'checkpoint-signing'",
        "UPDATE sealed_keys SET key_id = 3000000000 WHERE name = 'checkpoint-signing'",
        "UPDATE sealed_keys SET nonce = hex(nonce) WHERE name = 'checkpoint-signing'",
    ],
)
def test_a_signing_key_of_another_type_is_refused(shell: Shell, edit_: str) -> None:
    """It isn't taken for so many bytes; without the key nothing is proven."""
    edit(shell, edit_)
    for name in ("verify", "anchor", "key"):
        ran = shell("audit", name)

        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)


def test_a_verification_that_is_interrupted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with status 130, which is none of its verdicts, and without a word."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.cli.proof.verify", lambda scan, *_, **__: interrupted(scan))

    assert shell("audit", "verify") == Ran(130, "", "")


def test_a_view_in_the_place_of_the_records_is_refused(shell: Shell) -> None:
    """It could give rows without end."""
    edit(shell, "DROP TABLE audit_records")
    endless = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT n AS number, '' AS body, x'' AS hash FROM n"
    edit(shell, f"CREATE VIEW audit_records AS {endless}")
    ran = shell("audit", "verify")

    assert ran.status == 2
    assert "audit_records isn't the table that the gateway made" in ran.err


FAKED = "\x1b[2J\x1b[Hall holds: 3 records in 1 chains\n\u009b8m"


@pytest.fixture
def faked(shell: Shell) -> Shell:
    """Three records, and a fourth whose chain and ID would have a terminal show another outcome."""
    body = json.dumps({"chain": FAKED, "id": FAKED, "ids": [FAKED], "name": FAKED, "number": 4, "seq": 1}, ensure_ascii=False)
    with closing(sqlite3.connect(shell.state_dir / "gateway.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (4, ?, zeroblob(32))", (body,))
        connection.execute("DELETE FROM audit_ids WHERE number = 4")
        connection.execute("INSERT INTO audit_ids VALUES (?, 3)", (FAKED,))
        connection.execute("INSERT INTO audit_chains (id, opened_at, closed_at) VALUES (?, '2020', '2020')", (FAKED,))
    return shell


def test_what_is_found_can_not_fake_the_outcome(faked: Shell) -> None:
    """A finding is one line, whatever lies in the database; what a terminal would obey is shown."""
    lines = faked("audit", "verify").out.splitlines()

    assert all(line.isprintable() for line in lines)
    assert [line.split()[0] for line in lines] == ["WRONG"] * (len(lines) - 1) + ["NOT"]
    assert any("chain \\x1b[2J" in line and "ID \\x1b[2J" in line for line in lines)
    assert any("index-wrong" in line for line in lines)


def test_what_is_pruned_can_not_fake_the_outcome(faked: Shell) -> None:
    """What names a chain that isn't sound is one line, too."""
    ran = faked("audit", "prune", "--before", "2020-01-01", "--yes")

    assert ran.status == 1
    assert all(line.isprintable() for line in ran.err.splitlines())
    assert ran.err.startswith("conflict: nothing of chain \\x1b[2J")


def test_a_newer_schema_is_read_with_what_made_it(shell: Shell) -> None:
    """It isn't said that `db upgrade` would help: it brings nothing back."""
    edit(shell, "UPDATE alembic_version SET version_num = '9999'")
    ran = shell("audit", "verify")

    assert ran.status == 2
    assert "has schema 9999" in ran.err
    assert "read it with the newer one that made it" in ran.err


def test_a_schema_whose_name_a_terminal_would_obey_is_shown(shell: Shell) -> None:
    """A refusal, too, shows what it names."""
    edit(shell, "UPDATE alembic_version SET version_num = char(27) || '[2J'")

    assert "has schema \\x1b[2J" in shell("audit", "verify").err


def test_json_on_a_terminal_is_ascii(faked: Shell) -> None:
    """For a program, through a pipe, it is as it was."""
    own, terminal = pty.openpty()
    variables = environment(STATE_DIR=faked.state_dir) | {"TERM": "dumb"}
    arguments = command("audit", "verify", "--json")
    ran = subprocess.run(arguments, env=variables, cwd=REPOSITORY, stdout=terminal, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(terminal)
    shown = os.read(own, 65_536)
    os.close(own)

    assert ran.returncode == 1
    assert shown.isascii()
    assert b"\\u009b" in shown
    assert "\u009b" in faked("audit", "verify", "--json").out


def test_a_schema_of_another_type_is_none(shell: Shell) -> None:
    """A number in its place isn't taken for so many bytes."""
    edit(shell, "DROP TABLE alembic_version")
    edit(shell, "CREATE TABLE alembic_version AS SELECT 3000000000 AS version_num")
    ran = shell("audit", "verify")

    assert ran.status == 2
    assert "has schema none" in ran.err


@pytest.mark.parametrize("signature", ["300000000", "zeroblob(64)", "'text'"])
def test_a_checkpoint_that_was_not_signed_is_no_anchor(shell: Shell, signature: str) -> None:
    """It is left out, the one before it is written in its place, and the status says so."""
    (older,) = shell("audit", "anchor").out.splitlines()
    shell("token", "enable", "shop")
    edit(shell, f"UPDATE audit_checkpoints SET signature = {signature} WHERE seq = 4")  # noqa: S608 - of the test
    ran = shell("audit", "anchor")

    assert ran == Ran(1, older + "\n", ran.err)
    assert ran.err.startswith("conflict: 1 checkpoints aren't what the gateway signed")


def test_there_is_no_key_before_the_first_record(shell: Shell) -> None:
    """Reading makes none."""
    edit(shell, "DELETE FROM sealed_keys WHERE name = 'checkpoint-signing'")

    assert shell("audit", "key").status == 1
    assert shell("audit", "verify").status == 1


def test_reading_changes_nothing(shell: Shell) -> None:
    """The database's file is the same before and after, also while another has it open and writes."""
    with closing(sqlite3.connect(shell.state_dir / "gateway.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        before = (shell.state_dir / "gateway.db").read_bytes()
        assert [shell("audit", name).status for name in ("verify", "anchor", "key")] == [0, 0, 0]
        assert (shell.state_dir / "gateway.db").read_bytes() == before
        writer.execute("ROLLBACK")


def test_a_terminal_sees_how_far_it_is(shell: Shell) -> None:
    """On a terminal's standard error stands a bar; the result goes to standard output as ever."""
    own, terminal = pty.openpty()
    variables = environment(STATE_DIR=shell.state_dir) | {"TERM": "xterm"}
    arguments = command("audit", "verify")
    ran = subprocess.run(arguments, env=variables, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=True)
    os.close(terminal)
    shown = os.read(own, 65_536)
    os.close(own)

    assert ran.stdout == b"all holds: 3 records in 1 chains\n"
    assert b"verifying" in shown
