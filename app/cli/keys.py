"""`key`: gateway keys for the configuration file."""

from __future__ import annotations

from typing import Annotated

import typer

from app.callers import HashedKey, make_key
from app.cli.output import print_json

__all__ = ["group"]

group = typer.Typer(help="Gateway keys for the configuration file.", no_args_is_help=True)


@group.callback()
def _group() -> None:
    """Have the one command keep its name."""


@group.command()
def new(as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Make a key, shown once, and its hash, which may stand in the configuration file. Nothing is kept."""
    key = make_key()
    hashed = HashedKey.of(key)
    if as_json:
        print_json({"id": key.id, "key": key.reveal(), "sha256": str(hashed)})
        return
    print(f"the key, for the caller alone, shown only now:\n{key.reveal()}\n")
    print(f"for the configuration file, under the caller's keys:\n- sha256: {hashed}")
