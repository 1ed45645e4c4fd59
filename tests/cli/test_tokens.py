"""The commands of tokens: a value goes in and never comes out."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from pathlib import Path

import pytest

from app.administration import Administration
from app.cli.state import administer
from app.vault import TokenRow

from .processes import PATIENCE_SECONDS, REPOSITORY, command, environment, until
from .shell import Ran, Shell

VALUE = "a-token-value-0001"
OTHER_VALUE = "a-token-value-0002"


def added(shell: Shell, name: str = "shop", value: str = VALUE, kind: str = "account") -> Ran:
    """A token that was added with its value on standard input."""
    ran = shell("token", "add", name, "--kind", kind, given=value + "\n")
    assert (ran.status, ran.err.count("\n")) == (0, 1 if "a master key was made" in ran.err else 0)
    return ran


def fingerprint(shell: Shell, name: str = "shop") -> str:
    """A token's fingerprint."""
    return str(shell("token", "show", name, "--json").document["fingerprint"])


def test_a_token_is_added_from_standard_input(shell: Shell) -> None:
    """The value is read from standard input without its line's end, and the answer names the token by name, kind and fingerprint."""
    ran = added(shell, kind="source")

    assert ran.out == f"added shop (source), fingerprint {fingerprint(shell)}\n"
    assert VALUE not in ran.out + ran.err


def test_the_first_command_makes_a_key_and_says_so(shell: Shell) -> None:
    """A master key that had to be made is told on standard error, without being shown."""
    ran = added(shell)

    assert "a master key was made; keep a copy" in ran.err
    assert (shell.state_dir / "master.keys").read_text(encoding="utf-8").strip().partition(":")[2] not in ran.out + ran.err
    assert added(shell, "other", OTHER_VALUE).err == ""


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_token_is_added_from_a_file(shell: Shell, tmp_path: Path, end: str) -> None:
    """`--value-file` holds the value, with or without a line's end, and gives the very same value as standard input."""
    (tmp_path / "value").write_bytes((VALUE + end).encode())

    ran = shell("token", "add", "shop", "--kind", "account", "--value-file", str(tmp_path / "value"))
    again = shell("token", "add", "same", "--kind", "account", given=VALUE)

    assert ran.status == 0
    assert VALUE not in ran.out + ran.err
    assert (again.status, again.err) == (1, "conflict: this value is held already: one token has one lane, under one name\n")


def test_the_options_are_kept(shell: Shell) -> None:
    """Kind, rate, burst and pacing are what they were given as."""
    options = ("--kind", "channel", "--rate", "5", "--burst", "spaced", "--pacing", "proven")
    shell("token", "add", "shop", *options, given=VALUE)

    shown = shell("token", "show", "shop", "--json").document

    assert {name: shown[name] for name in ("name", "kind", "rate", "burst", "pacing", "enabled")} == {
        "name": "shop",
        "kind": "channel",
        "rate": 5,
        "burst": "spaced",
        "pacing": "proven",
        "enabled": True,
    }


def test_traits_are_set(shell: Shell) -> None:
    """`token set` changes what it is given and nothing else, and says what the token is now."""
    added(shell)
    before = shell("token", "show", "shop", "--json").document

    first = shell("token", "set", "shop", "--rate", "5", "--pacing", "proven")
    second = shell("token", "set", "shop", "--kind", "channel", "--burst", "spaced")

    changed = {"kind": "channel", "rate": 5, "burst": "spaced", "pacing": "proven"}
    assert first == Ran(0, "shop is of kind account: 5 a second, window, proven\n", "")
    assert second == Ran(0, "shop is of kind channel: 5 a second, spaced, proven\n", "")
    assert shell("token", "show", "shop", "--json").document == before | changed


@pytest.mark.parametrize(
    ("options", "status", "fault"),
    [
        ((), 1, "parameter-invalid: there is nothing to change: give a kind, a rate, a burst or a pacing\n"),
        (("--rate", "0"), 1, "parameter-invalid: a token's rate is 1 to 1000 requests a second\n"),
        (("--kind", "none"), 2, None),
    ],
)
def test_traits_that_are_none_are_refused(shell: Shell, options: tuple[str, ...], status: int, fault: str | None) -> None:
    """What is no change, or no trait, changes nothing."""
    added(shell)
    before = shell("token", "show", "shop", "--json").document

    ran = shell("token", "set", "shop", *options)

    assert ran.status == status
    assert fault is None or ran.err == fault
    assert shell("token", "show", "shop", "--json").document == before


def test_the_tokens_are_listed(shell: Shell) -> None:
    """The list has a line for each token, and the same as JSON; neither holds a value."""
    added(shell, "store", OTHER_VALUE)
    added(shell, "shop")

    table, document = shell("token", "list"), shell("token", "list", "--json").document

    assert [one["name"] for one in document] == ["shop", "store"]
    assert [line.split()[:6] for line in table.out.splitlines()] == [
        ["name", "kind", "rate", "burst", "pacing", "enabled"],
        ["shop", "account", "2", "window", "learned", "True"],
        ["store", "account", "2", "window", "learned", "True"],
    ]
    assert all(one["fingerprint"] in table.out for one in document)
    assert not any(value in table.out + str(document) for value in (VALUE, OTHER_VALUE))


def test_no_tokens_are_told_in_words(shell: Shell) -> None:
    """An empty list is one line for people and an empty list for programs."""
    shell("db", "upgrade")
    added(shell)
    shell("token", "remove", "shop")

    assert shell("token", "list").out == "no tokens yet\n"
    assert shell("token", "list", "--json").document == []


def test_a_token_is_shown(shell: Shell) -> None:
    """A token is shown member by member, without its value."""
    added(shell)

    ran = shell("token", "show", "shop")

    document = shell("token", "show", "shop", "--json").document
    assert [line.split() for line in ran.out.splitlines()] == [[name, str(value)] for name, value in document.items()]
    assert VALUE not in ran.out


def test_a_token_is_rotated(shell: Shell, tmp_path: Path) -> None:
    """A rotation reads the new value as adding does and shows its fingerprint."""
    added(shell)
    before = fingerprint(shell)
    (tmp_path / "value").write_text(OTHER_VALUE, encoding="utf-8")

    ran = shell("token", "rotate", "shop", "--value-file", str(tmp_path / "value"))
    after = fingerprint(shell)
    back = shell("token", "rotate", "shop", given=VALUE)

    assert ran.out == f"rotated shop, fingerprint {after}\n"
    assert back.out == f"rotated shop, fingerprint {before}\n"
    assert before != after
    assert not any(value in ran.out + back.out for value in (VALUE, OTHER_VALUE))


def test_a_token_is_disabled_enabled_and_removed(shell: Shell) -> None:
    """Each of these says what it did, and does it."""
    added(shell)

    assert shell("token", "disable", "shop").out == "disabled shop\n"
    assert shell("token", "show", "shop", "--json").document["enabled"] is False
    assert shell("token", "enable", "shop").out == "enabled shop\n"
    assert shell("token", "show", "shop", "--json").document["enabled"] is True
    assert shell("token", "remove", "shop").out == "removed shop\n"
    assert shell("token", "show", "shop") == Ran(1, "", "not-found: there is no token of that name\n")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "a token's value has 16 to 512 visible ASCII characters and no blanks"),
        ("short-secret-15", "a token's value has 16 to 512 visible ASCII characters and no blanks"),
        (VALUE + "\n" + OTHER_VALUE, "a token's value has 16 to 512 visible ASCII characters and no blanks"),
        (b"\xff" * 20, "the value can't be read: UnicodeDecodeError"),
    ],
)
def test_what_is_no_value_is_refused(shell: Shell, value: str | bytes, fault: str) -> None:
    """What stands on standard input and is no value is refused in one line that doesn't repeat it."""
    shell.set(MASTER_KEYS="k1:" + "A" * 43 + "=")

    assert shell("token", "add", "shop", "--kind", "account", given=value) == Ran(1, "", f"parameter-invalid: {fault}\n")


def test_a_value_that_was_given_for_a_name_is_kept_nowhere(shell: Shell) -> None:
    """A token's own value, or one that is held, is no name of a token or a caller, and no name is a value; neither is said back."""
    added(shell)
    shell("caller", "add", OTHER_VALUE)
    taken = "parameter-invalid: the name is a token's value, which must stand nowhere in the open"
    ran = [
        shell("token", "add", "a-value-also-given-as-a-name", "--kind", "account", given="a-value-also-given-as-a-name"),
        shell("token", "add", VALUE, "--kind", "account", given="a-third-value-0003"),
        shell("caller", "add", VALUE),
        shell("token", "add", "store", "--kind", "account", given=OTHER_VALUE),
        shell("token", "rotate", "shop", given=OTHER_VALUE),
    ]

    assert [one.status for one in ran] == [1] * 5
    assert all(one.err.startswith(taken) for one in ran[:3])
    assert all(one.err.startswith("parameter-invalid: the value is a token's or a caller's name") for one in ran[3:])
    assert not any(value in one.out + one.err for one in ran for value in (VALUE, OTHER_VALUE, "also-given"))
    assert [row["name"] for row in shell("token", "list", "--json").document] == ["shop"]
    assert VALUE not in shell("audit", "list", "--json").out


def test_a_value_file_that_isnt_there(shell: Shell, tmp_path: Path) -> None:
    """A value file that can't be read is refused before anything is opened."""
    ran = shell("token", "add", "shop", "--kind", "account", "--value-file", str(tmp_path / "none"))

    assert ran == Ran(1, "", "parameter-invalid: the value can't be read: FileNotFoundError\n")
    assert not shell.state_dir.exists()


def test_a_value_is_no_argument(shell: Shell) -> None:
    """A value can't be given where other processes could read it: the command has no place for it."""
    assert shell("token", "add", "shop", VALUE, "--kind", "account").status == 2
    assert shell("token", "add", "shop", "--value", VALUE, "--kind", "account").status == 2


@pytest.mark.parametrize("arguments", [("show",), ("rotate",), ("set", "--rate", "1"), ("enable",), ("disable",), ("remove",)])
def test_a_token_that_is_not_there(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Whatever is done to a token that there isn't ends with status 1 and one line on standard error."""
    shell.set(MASTER_KEYS="k1:" + "A" * 43 + "=")

    ran = shell("token", *arguments, "none", given=VALUE)

    assert ran == Ran(1, "", "not-found: there is no token of that name\n")


def test_every_change_is_on_record_with_who_made_it(shell: Shell) -> None:
    """The record of a command's change says that it was a command, and whose."""
    added(shell)

    record, _opened = shell("audit", "list", "--json").document

    assert (record["name"], record["subject"]) == ("token:added", "shop")
    assert record["by"].startswith("command:")
    assert record["by"] != "command:"


def test_the_work_sees_the_state_of_the_variables(shell: Shell) -> None:
    """Commands work on the state folder that the environment names."""
    added(shell)

    async def names(administration: Administration) -> list[TokenRow]:
        return await administration.tokens()

    assert [row.token.name for row in administer(names)] == ["shop"]


def test_a_value_that_is_typed_isnt_shown(tmp_path: Path) -> None:
    """At a terminal the value is asked for, and what is typed doesn't appear."""
    ours, theirs = pty.openpty()
    seen = bytearray()
    with subprocess.Popen(
        command("token", "add", "shop", "--kind", "account"),
        env=environment(STATE_DIR=tmp_path / "state"),
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        try:
            os.set_blocking(ours, False)

            def reads(text: bytes) -> bool:
                with contextlib.suppress(BlockingIOError):
                    seen.extend(os.read(ours, 65_536))
                return text in seen

            until(lambda: reads(b"Value (not shown): "))
            os.write(ours, VALUE.encode() + b"\n")
            until(lambda: reads(b"added shop"))
            status = process.wait(PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
            os.close(ours)
            os.close(theirs)

    assert status == 0
    assert VALUE.encode() not in seen
