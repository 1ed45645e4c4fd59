"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

__all__ = ["print_json", "print_members", "print_table", "screen"]


WIDE = 1_000


def screen() -> Console:
    """Standard output as it is now; wide, so that a table cuts nothing and the terminal wraps what it must."""
    return Console(width=WIDE, soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """One JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


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
