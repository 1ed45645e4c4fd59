"""Every command of the program, and those that the canary doesn't run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from app.cli.program import program

__all__ = ["NOT_DRIVEN", "commands"]

NOT_DRIVEN = {
    "demo": "it makes a token up and touches no other state",
    "simulate": "it stands for Flxpoint, and is told its tokens by argument",
}


def commands() -> set[str]:
    """The names of all commands, such as `token add`."""
    return set(_below(typer.main.get_command(program), ""))


def _below(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name.strip()
        return
    for key, child in children.items():
        yield from _below(child, f"{name} {key}")
