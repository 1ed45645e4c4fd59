"""What commands give out: tables for people, JSON for programs, files that are whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import typer
from rich.console import Console
from rich.table import Table

from app.errors import StartRefused
from app.storage.files import whole_file

__all__ = ["complete_file", "let_go", "print_json", "print_members", "print_table", "revised_file", "screen", "standard_output"]

READER_GONE = 128 + signal.SIGPIPE
WIDE = 1_000


def screen() -> Console:
    """Standard output as it is now; wide, so that a table cuts nothing and the terminal wraps what it must."""
    return Console(width=WIDE, soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """One JSON document; on a terminal in ASCII, which holds nothing that it would obey."""
    print(json.dumps(value, indent=2, ensure_ascii=sys.stdout.isatty()))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str) -> None:
    """A table, or one line where there are no rows."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    screen().print(table if table.row_count else nothing)


def print_members(members: Mapping[str, object]) -> None:
    """One thing's members, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in members.items():
        table.add_row(name, "" if value is None else str(value))
    screen().print(table)


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, in bytes, with all that is printed meanwhile.

    A pipe whose reader has gone ends the command without a word, with the status that a shell gives for that.

    Raises:
        typer.Exit: so it is.
        StartRefused: it can't be written.
    """
    if sys.stdout is None:
        message = "standard output is closed"
        raise StartRefused(message)
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except BrokenPipeError:
        let_go(sys.stdout.fileno())
        raise typer.Exit(READER_GONE) from None
    except OSError as error:
        let_go(sys.stdout.fileno())
        message = f"standard output can't be written: {error.strerror or error}"
        raise StartRefused(message) from error
    except SystemExit:
        let_go(sys.stdout.fileno())
        raise


@contextmanager
def complete_file(path: Path) -> Iterator[BinaryIO]:
    """A file of its owner's alone, which takes its place once it is complete and on disk; what is broken off leaves nothing.

    Where a link stands, the file that it leads to is replaced. What is no file, such as a pipe or a device, is written to.

    Raises:
        StartRefused: it can't be written.
    """
    try:
        with _straight(path) if path.exists() and not path.is_file() else whole_file(Path(os.path.realpath(path))) as file:
            yield file
    except OSError as error:
        message = f"{path} can't be written: {error.strerror or error}"
        raise StartRefused(message) from error


@contextmanager
def revised_file(path: Path) -> Iterator[BinaryIO]:
    """As `complete_file`, for who goes back in what is written; what is no file, and can't be gone back in, gets all of it at the end.

    Raises:
        StartRefused: it can't be written.
    """
    with complete_file(path) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield file
            return
        with TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            shutil.copyfileobj(whole, file)


@contextmanager
def _straight(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        try:
            yield file
            file.flush()
        except BaseException:
            let_go(file.fileno())
            raise


def let_go(descriptor: int) -> None:
    """Have what is left of an output go nowhere: at its end Python would try again to write it, and wait, or complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
