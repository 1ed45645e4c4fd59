"""Reading the record into an output that can't take it, or with an argument that no record holds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .processes import REPOSITORY, command, environment
from .shell import Shell

READING = [("list",), ("list", "--json"), ("show", "1"), ("show", "1", "--json"), ("export",)]


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds a change."""
    assert shell("token", "add", "shop", "--kind", "account", given="a-simulated-token-value-0001").status == 0
    return shell


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_an_output_that_is_full_is_told(shell: Shell, arguments: tuple[str, ...]) -> None:
    """In one line, with status 2."""
    variables = environment(STATE_DIR=shell.state_dir)
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            command("audit", *arguments), env=variables, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )

    assert (ran.returncode, ran.stderr) == (2, b"standard output can't be written: No space left on device\n")


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_an_output_that_is_closed_is_told(shell: Shell, arguments: tuple[str, ...]) -> None:
    """In one line, with status 2."""
    variables = environment(STATE_DIR=shell.state_dir)
    ran = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command("audit", *arguments)],
        env=variables,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stderr) == (2, b"standard output is closed\n")


def test_a_reference_that_is_not_utf_8_is_one_to_nothing(shell: Shell) -> None:
    """No record holds it; it is shown as what it is."""
    ran = shell("audit", "show", os.fsdecode(b"\xff"))

    assert (ran.status, ran.out, ran.err) == (1, "", "not-found: there is no record, request, call or send \\udcff\n")
