"""`vault`: the master keys, and what they seal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.output import print_json, print_table
from app.cli.remote import master_keys_of_running
from app.cli.state import administer
from app.errors import StartRefused

__all__ = ["group"]

group = typer.Typer(help="The master keys, and what they seal.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
COLUMNS = ("master key", "seals", "is here", "tokens", "keys")


@group.command()
def status(as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show how much each master key seals. One that seals nothing can be removed."""
    uses = administer(lambda administration: administration.key_uses())
    if as_json:
        print_json([asdict(use) for use in uses])
        return
    rows = [(use.id, "new values" if use.first else "", "yes" if use.present else "no", use.tokens, use.keys) for use in uses]
    print_table(COLUMNS, rows, nothing="no master keys")


@group.command()
def reseal() -> None:
    """Seal everything under the first master key, so that the others can be removed. It may be interrupted and repeated."""
    _require_known_to_running()
    resealed = administer(lambda administration: administration.reseal())
    print(f"resealed {resealed.count} under {resealed.key_id}; {resealed.already} stood under it already")


def _require_known_to_running() -> None:
    """A gateway that lacks the new key could open nothing that was resealed, once it reads it again."""
    running = master_keys_of_running()
    if running is None:
        return
    first = administer(lambda administration: administration.key_uses())[0].id
    if first not in running:
        message = (
            f"the gateway that runs here doesn't have the master key {first}: restart it with both keys, the new one first, then reseal"
        )
        raise StartRefused(message)
