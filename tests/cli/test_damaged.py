"""A record that somebody damaged or edited: it is shown as that, and all others are read as ever."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.shelf import DAMAGES, damaged, made, put_away

from .shell import Shell

COUNT, EDITED = 5, 3
UNREADABLE = "this isn't what was written here; `audit verify` tells more"


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds five records."""
    assert shell("db", "upgrade").status == 0
    put_away(shell.state_dir / "gateway.db", [made(number, request_id=f"r-{number}", ids=["1"]) for number in range(1, COUNT + 1)])
    return shell


@pytest.fixture(params=DAMAGES)
def readable(shell: Shell, request: pytest.FixtureRequest) -> Iterator[bool]:
    """Edits one of the records; whether it can still be read."""
    body, readable = DAMAGES[request.param]
    with damaged(shell.state_dir / "gateway.db", EDITED, body):
        yield readable


@pytest.mark.parametrize("options", [(), ("--since", "2026-01-01", "--until", "2026-02-01")])
def test_it_is_listed(shell: Shell, readable: bool, options: tuple[str, ...]) -> None:  # noqa: FBT001 - a fixture
    """With its number, its hash and where to learn more; also by time, since nobody can tell when it was made."""
    [*newer, edited, _, _] = shell("audit", "list", "--json", *options).document
    table = shell("audit", "list", *options)

    assert [one["id"][-1] for one in newer] == ["5", "4"]
    assert len(edited["hash"]) == 64
    assert readable or edited == {"number": EDITED, "unreadable": UNREADABLE, "hash": edited["hash"]}
    assert (table.status, table.err, len(table.out.splitlines())) == (0, "", COUNT + 1)
    assert readable or UNREADABLE in table.out


def test_it_is_shown(shell: Shell, readable: bool) -> None:  # noqa: FBT001 - a fixture
    """By its number, as any other."""
    [edited] = shell("audit", "show", str(EDITED), "--json").document
    shown = shell("audit", "show", str(EDITED))

    assert (shown.status, shown.err) == (0, "")
    assert edited["hash"] in shown.out
    assert readable or UNREADABLE in shown.out


def test_stories_are_told_beside_it(shell: Shell, readable: bool) -> None:  # noqa: FBT001 - a fixture
    """Those of other requests are whole."""
    assert readable is not None
    assert [one["id"][-1] for one in shell("audit", "show", "r-4", "--json").document] == ["4"]


def test_it_is_exported(shell: Shell, readable: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a fixture
    """As JSON Lines it is what lies there, byte for byte, and as CSV a line."""
    lines, table = tmp_path / "lines", tmp_path / "table"
    for form, path in (("jsonl", lines), ("csv", table)):
        ran = shell("audit", "export", "--format", form, "--output", str(path))
        assert (ran.status, ran.err) == (0, "")

    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert any(body.replace(b"%d", b"3") in lines.read_bytes().splitlines() for body, _ in DAMAGES.values())
    assert len(rows) == len(lines.read_bytes().splitlines()) == COUNT
    assert readable or UNREADABLE in rows[EDITED - 1]["others"]
