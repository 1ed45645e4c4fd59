"""`token`: the Flxpoint tokens that the gateway holds."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import print_json, print_members, print_table
from app.cli.remote import resume_in_running, tested_by_running
from app.cli.state import administer
from app.domain import Burst, Pacing, TokenKind, TokenValue
from app.errors import ParameterInvalid
from app.vault import NewToken, TokenChange, TokenRow

__all__ = ["group"]

group = typer.Typer(help="The Flxpoint tokens that the gateway holds. A value goes in and never comes out.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The token's name.")]
ValueFile = Annotated[Path | None, typer.Option(help="File that holds the value; otherwise it is read from standard input.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
AGREES = {True: "yes", False: "no", None: "can't be told"}
PACING_HELP = "Use what is learned of the network, or only what no network can break: slower, by a round trip for each send."


@group.command()
def add(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    kind: Annotated[TokenKind, typer.Option(help="The token's kind at Flxpoint.")],
    rate: Annotated[int, typer.Option(help="Requests a second that Flxpoint allows it.")] = 2,
    burst: Annotated[Burst, typer.Option(help="Spend a second's budget at once, or evenly spaced.")] = Burst.WINDOW,
    pacing: Annotated[Pacing, typer.Option(help=PACING_HELP)] = Pacing.LEARNED,
    value_file: ValueFile = None,
) -> None:
    """Add a token; its value is read from standard input or a file."""
    new = NewToken(name, kind, _value(value_file), rate, burst, pacing)
    row = administer(lambda administration: administration.add_token(new))
    print(f"added {row.token.name} ({row.token.kind}), fingerprint {row.fingerprint}")


@group.command("set")
def set_(
    name: Name,
    kind: Annotated[TokenKind | None, typer.Option(help="The token's kind at Flxpoint.")] = None,
    rate: Annotated[int | None, typer.Option(help="Requests a second that Flxpoint allows it.")] = None,
    burst: Annotated[Burst | None, typer.Option(help="Spend a second's budget at once, or evenly spaced.")] = None,
    pacing: Annotated[Pacing | None, typer.Option(help=PACING_HELP)] = None,
) -> None:
    """Change a token's kind, rate, burst or pacing; its value, and the calls that wait for it, stay."""
    change = TokenChange(kind, rate, burst, pacing)
    row = administer(lambda administration: administration.change_token(name, change))
    token = row.token
    print(f"{name} is of kind {token.kind}: {token.rate} a second, {token.burst}, {token.pacing}")


@group.command("list")
def list_(as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """List the tokens."""
    rows = administer(lambda administration: administration.tokens())
    if as_json:
        print_json([_members(row) for row in rows])
        return
    shown = (list(_members(row).values()) for row in rows)
    print_table(("name", "kind", "rate", "burst", "pacing", "enabled", "fingerprint", "created", "rotated"), shown, nothing="no tokens yet")


@group.command()
def show(name: Name, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show a token."""
    members = _members(administer(lambda administration: administration.token(name)))
    print_json(members) if as_json else print_members(members)


@group.command()
def rotate(name: Name, value_file: ValueFile = None) -> None:
    """Put a new value in place of the old one; read from standard input or a file."""
    value = _value(value_file)
    row = administer(lambda administration: administration.rotate_token(name, value))
    print(f"rotated {name}, fingerprint {row.fingerprint}")


@group.command()
def enable(name: Name) -> None:
    """Allow the token's use."""
    administer(lambda administration: administration.set_token_enabled(name, enabled=True))
    print(f"enabled {name}")


@group.command()
def disable(name: Name) -> None:
    """Stop the token's use; calls get 503 token-unavailable."""
    administer(lambda administration: administration.set_token_enabled(name, enabled=False))
    print(f"disabled {name}")


@group.command()
def resume(name: Name) -> None:
    """Have a running gateway send the token's calls again at once, where Flxpoint's refusals had suspended them."""
    held_back = resume_in_running(name)
    print(f"resumed {name}: {', '.join(held_back) or 'nothing was held back'}")


@group.command("test")
def try_(name: Name, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Have a running gateway ask Flxpoint, in the token's turn, whether it takes the token, and as which kind."""
    tested = tested_by_running(name)
    if as_json:
        print_json(tested)
        return
    rows = [(one["operation"], one["status"] or one["result"], _milliseconds(one["round_trip"])) for one in tested["probes"]]
    print_table(("probe", "answer", "round trip"), rows, nothing="nothing was sent")
    print(f"on file: {tested['kind']}; seems to be: {tested['seems'] or 'unknown'}; agrees: {AGREES[tested['agrees']]}")
    print(tested["verdict"])


@group.command()
def remove(name: Name) -> None:
    """Remove the token and every grant of it."""
    administer(lambda administration: administration.remove_token(name))
    print(f"removed {name}")


def _value(path: Path | None) -> TokenValue:
    """The value, without the line's end. It never comes as an argument, where other processes could read it."""
    try:
        if path is not None:
            text = path.read_text(encoding="ascii")
        elif sys.stdin.isatty():
            text = getpass.getpass("Value (not shown): ")
        else:
            text = sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        message = f"the value can't be read: {type(error).__name__}"
        raise ParameterInvalid(message) from None
    return TokenValue(text.strip("\r\n"))


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1_000:.0f} ms"


def _members(row: TokenRow) -> dict[str, object]:
    return {
        "name": row.token.name,
        "kind": row.token.kind.value,
        "rate": row.token.rate,
        "burst": row.token.burst.value,
        "pacing": row.token.pacing.value,
        "enabled": row.token.enabled,
        "fingerprint": row.fingerprint,
        "created": row.created_at,
        "rotated": row.rotated_at,
    }
