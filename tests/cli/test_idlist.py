"""Files of IDs: which forms they may have, and what is said of those that are none."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from app.cli.idlist import IdList, read_ids
from app.errors import StartRefused

MEANT = "here should stand an ID, a whole number from 1 to 9223372036854775807, and nothing else"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "ids.csv"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1001\n1002\n", IdList((1001, 1002), 0, headed=False)),
        (b"1001", IdList((1001,), 0, headed=False)),
        (b"1001\r\n\r\n1002\r\n", IdList((1001, 1002), 0, headed=False)),
        (b"1001\r1002", IdList((1001, 1002), 0, headed=False)),
        (b"\xef\xbb\xbf1001\n", IdList((1001,), 0, headed=False)),
        (b" 1001 \n\t1002\n", IdList((1001, 1002), 0, headed=False)),
        (b"order_id\n1001\n", IdList((1001,), 0, headed=True)),
        (b"\n\nOrder ID,Name\n1001,12\n\n,\n1002,13\n", IdList((1001, 1002), 0, headed=True)),
        (b"id;name\n1001;a,b\n", IdList((1001,), 0, headed=True)),
        (b"id\tname\n1001\ta\n", IdList((1001,), 0, headed=True)),
        (b'"id","name"\n"1001","two\nlines"\n"1002","b"\n', IdList((1001, 1002), 0, headed=True)),
        (b"3\n1\n3\n2\n1\n", IdList((3, 1, 2), 2, headed=False)),
        (b"9223372036854775807\n", IdList((2**63 - 1,), 0, headed=False)),
    ],
    ids=["lines", "one", "windows", "old", "mark", "blanks", "header", "columns", "semicolons", "tabs", "quoted", "repeated", "largest"],
)
def test_forms(file: Path, content: bytes, expected: IdList) -> None:
    """IDs come one a line or as the first column, with a header or without; each counts once, in its order."""
    file.write_bytes(content)

    assert read_ids(str(file)) == expected


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hyphen stands for standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id\n1001\n")))

    assert read_ids("-") == IdList((1001,), 0, headed=True)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"1001\n12a\n", 2),
        (b"12a\n1001\n", 1),
        (b"id\n0\n", 2),
        (b"id\n0012\n", 2),
        (b"id\n-5\n", 2),
        (b"id\n1001.0\n", 2),
        (b"id\n9223372036854775808\n", 2),
        (b"id\n1001 1002\n", 2),
        ("id\n\u0661\u0662\n".encode(), 2),
        (b"id\nid\n", 2),
        (b"id,name\n,a\n", 2),
        (b'id,name\n1001,"a\nb\nc"\nx,d\n', 5),
        (b"\n\n1001\n\nx\n", 5),
    ],
)
def test_a_line_that_holds_no_id_is_named(file: Path, content: bytes, line: int) -> None:
    """What is no ID is named by the line that its row begins at, and not repeated: it may be a secret in the wrong file."""
    file.write_bytes(content)

    with pytest.raises(StartRefused) as refused:
        read_ids(str(file))

    assert str(refused.value) == f"{file}: line {line}: {MEANT}"


def test_a_wrong_line_among_many(file: Path) -> None:
    """One wrong line of 100,000 is found; of several the first are named and the rest counted."""
    lines = [b"%d" % number for number in range(1, 100_001)]
    lines[73_811] = b"12a"
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(StartRefused) as one:
        read_ids(str(file))
    lines[80_000:80_005] = [b"x"] * 5
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(StartRefused) as several:
        read_ids(str(file))

    assert str(one.value) == f"{file}: line 73812: {MEANT}"
    assert str(several.value) == f"{file}: line 73812, 80001, 80002 and 3 more: {MEANT}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", " holds no ID"),
        (b"\n \n,\n", " holds no ID"),
        (b"order_id\n", " holds no ID"),
        (b"1001\n\xff\n", ": line 2: this isn't UTF-8"),
        ("1001\n".encode("utf-16"), ": line 1: this isn't UTF-8"),
        (b'1001\n"1002"x\n', ": line 2: this is no CSV: ',' expected after '\"'"),
        (b'1001\n"1002\n', ": line 2: this is no CSV: unexpected end of data"),
    ],
    ids=["empty", "blank", "header", "latin", "utf-16", "quote", "cut"],
)
def test_a_file_that_is_none(file: Path, content: bytes, reason: str) -> None:
    """A file without IDs, in another encoding or with broken quotes is refused as a whole, in one line."""
    file.write_bytes(content)

    with pytest.raises(StartRefused) as refused:
        read_ids(str(file))

    assert str(refused.value) == f"{file}{reason}"


def test_a_file_that_cant_be_read(tmp_path: Path) -> None:
    """A missing file, or a folder, is told by its name."""
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(StartRefused) as refused:
            read_ids(str(path))

        assert str(refused.value) == f"{path} can't be read: {reason}"
