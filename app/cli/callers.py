"""`caller`: the services and frontends that may call the gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from app.callers import CallerRow, GatewayKey, GrantAsked, NewCaller
from app.catalogue import load_catalogue
from app.cli.output import print_json, print_members, print_table
from app.cli.state import administer
from app.domain import Role
from app.errors import NotFound
from app.settings import load_settings

__all__ = ["group"]

group = typer.Typer(help="The services and frontends that may call the gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The caller's name.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
GrantText = Annotated[str, typer.Argument(metavar="TOKEN[:OPERATION,…]", help="A token, and the operations if not all.")]


@group.command()
def add(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN[:OPERATION,…]", help="A token the caller may use, for all operations or those named; repeat it."),
    ] = None,
    default_token: Annotated[str | None, typer.Option(help="The token for calls that name none.")] = None,
    role: Annotated[Role | None, typer.Option(help="What the caller may do with the gateway itself.")] = None,
    weight: Annotated[int, typer.Option(help="The caller's share of a token's turns, against other callers'.")] = 1,
    rate: Annotated[str | None, typer.Option(help="The gateway's limit on the caller, such as 100/second.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Add a caller; its key is shown once."""
    asked = tuple(_grant(text) for text in grant or ())
    new = NewCaller(name, asked, default_token, role, weight, rate)
    row, key = administer(lambda administration: administration.add_caller(new))
    _show_key(row, key, as_json=as_json)


@group.command("list")
def list_(as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """List the callers."""
    rows = administer(lambda administration: administration.callers())
    if as_json:
        print_json([_members(row) for row in rows])
        return
    shown = ((row.name, row.role, row.weight, row.rate, _grants(row), row.default_token) for row in rows)
    print_table(("name", "role", "weight", "rate", "grants", "default token"), shown, nothing="no callers yet")


@group.command()
def show(name: Name, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show a caller."""
    row = administer(lambda administration: administration.caller(name))
    if as_json:
        print_json(_members(row))
    else:
        print_members(_members(row) | {"grants": _grants(row), "keys": ", ".join(one.id for one in row.keys)})


@group.command("rotate-key")
def rotate_key(name: Name, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Replace the caller's key; the new one is shown once."""
    row, key = administer(lambda administration: administration.rotate_key(name))
    _show_key(row, key, as_json=as_json)


@group.command()
def grant(name: Name, grant_text: GrantText) -> None:
    """Let the caller use a token, in place of what was granted for that token before."""
    asked = _grant(grant_text)
    row = administer(lambda administration: administration.grant(name, asked))
    print(f"{name} may use: {_grants(row)}")


@group.command()
def revoke(name: Name, token: Annotated[str, typer.Argument(help="The token's name.")]) -> None:
    """Take the grant for a token back."""
    row = administer(lambda administration: administration.revoke(name, token))
    print(f"{name} may use: {_grants(row) or 'nothing'}")


@group.command()
def remove(name: Name) -> None:
    """Remove the caller with its keys and grants."""
    administer(lambda administration: administration.remove_caller(name))
    print(f"removed {name}")


def _grant(text: str) -> GrantAsked:
    """A grant as written: `TOKEN` or `TOKEN:OPERATION,OPERATION`.

    Raises:
        NotFound: an operation isn't in the catalogue.
    """
    token, colon, names = text.partition(":")
    if not colon:
        return GrantAsked(token)
    catalogue = load_catalogue(load_settings().catalogue)
    operations = tuple(name for name in names.split(",") if name)
    unknown = [name for name in operations if name not in catalogue]
    if unknown or not operations:
        named = unknown[0] if unknown else "of an empty name"
        message = f"there is no operation {named}; the catalogue has {', '.join(one.id for one in catalogue)}"
        raise NotFound(message)
    return GrantAsked(token, operations)


def _show_key(row: CallerRow, key: GatewayKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": row.name, "id": row.id, "key": key.reveal()})
    else:
        print(f"{row.name}'s key, shown only now:\n{key.reveal()}")


def _grants(row: CallerRow) -> str:
    return ", ".join(map(str, row.grants))


def _members(row: CallerRow) -> dict[str, object]:
    return {
        "name": row.name,
        "id": row.id,
        "role": row.role,
        "weight": row.weight,
        "rate": row.rate,
        "default_token": row.default_token,
        "grants": [{"token": one.token, "operations": one.operations} for one in row.grants],
        "keys": [one.id for one in row.keys],
        "created": row.created_at,
    }
