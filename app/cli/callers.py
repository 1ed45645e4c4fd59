"""`caller`: the services and frontends that may call the gateway."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from app.api.admin import Caller
from app.callers import CallerRow, GatewayKey, GrantAsked, KeyRow, NewCaller, parse_duration, parse_end
from app.catalogue import load_catalogue
from app.cli.output import print_json, print_members, print_table
from app.cli.state import administer
from app.domain import Role
from app.errors import NotFound, ParameterInvalid
from app.settings import load_settings

__all__ = ["group"]

NONE = "none"

group = typer.Typer(help="The services and frontends that may call the gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The caller's name.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
GrantText = Annotated[str, typer.Argument(metavar="TOKEN[:OPERATION,…]", help="A token, and the operations if not all.")]
Default = Annotated[str | None, typer.Option(help="The token for calls that name none.")]
Weight = Annotated[int | None, typer.Option(help="The caller's share of a token's turns, against other callers'; 1 by default.")]
Rate = Annotated[str | None, typer.Option(help="The gateway's limit on the caller, such as 100/second.")]
Networks = Annotated[
    list[str] | None,
    typer.Option(metavar="CIDR", help="Where the caller may call from, such as 10.0.12.0/28; repeat it. Everywhere by default."),
]
Origins = Annotated[
    list[str] | None, typer.Option(metavar="ORIGIN", help="An origin of the caller's pages, such as https://shop.example; repeat it.")
]
Claims = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="What a JWT of the identity provider must hold to be this caller's, all of it; repeat it."),
]
Expires = Annotated[
    str | None, typer.Option(metavar="DURATION|TIME", help="When the key ends: 90d, or a time in ISO 8601. Never by default.")
]


@group.command()
def add(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN[:OPERATION,…]", help="A token the caller may use, for all operations or those named; repeat it."),
    ] = None,
    default_token: Default = None,
    role: Annotated[Role | None, typer.Option(help="What the caller may do with the gateway itself.")] = None,
    weight: Weight = None,
    rate: Rate = None,
    network: Networks = None,
    origin: Origins = None,
    claim: Claims = None,
    expires: Expires = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Add a caller; its key is shown once."""
    asked = tuple(_grant(text) for text in grant or ())
    given = _given(role=role, weight=weight, rate=rate, default_token=default_token, networks=network, origins=origin, claims=claim)
    new = replace(NewCaller(name, asked), **given)
    end = _end(expires)
    row, key = administer(lambda administration: administration.add_caller(new, expires_at=end))
    _show_key(row, key, as_json=as_json)


@group.command("set")
def set_(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    default_token: Default = None,
    role: Annotated[str | None, typer.Option(metavar="admin|auditor|none", help="What the caller may do with the gateway itself.")] = None,
    weight: Weight = None,
    rate: Rate = None,
    network: Networks = None,
    origin: Origins = None,
    claim: Claims = None,
) -> None:
    """Change what is given and nothing else. `none` takes it away; networks, origins and claims take the place of those before."""
    given = _given(role=_role(role), weight=weight, rate=rate, default_token=default_token, networks=network, origins=origin, claims=claim)

    row = administer(lambda administration: administration.adjust_caller(name, lambda now: replace(now, **given)))
    print_members(_for_people(row))


@group.command()
def enable(name: Name) -> None:
    """Let the caller call again."""
    administer(lambda administration: administration.set_caller_enabled(name, enabled=True))
    print(f"enabled {name}")


@group.command()
def disable(name: Name) -> None:
    """Let the caller call no more, whatever its credential; nothing of it is lost."""
    administer(lambda administration: administration.set_caller_enabled(name, enabled=False))
    print(f"disabled {name}")


@group.command("list")
def list_(as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """List the callers."""
    rows = administer(lambda administration: administration.callers())
    if as_json:
        print_json([_members(row) for row in rows])
        return
    shown = ((row.name, _yes(row.enabled), row.role, row.weight, row.rate, _grants(row), row.default_token) for row in rows)
    print_table(("name", "enabled", "role", "weight", "rate", "grants", "default token"), shown, nothing="no callers yet")


@group.command()
def show(name: Name, as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Show a caller."""
    row = administer(lambda administration: administration.caller(name))
    if as_json:
        print_json(_members(row))
    else:
        print_members(_for_people(row))


@group.command("rotate-key")
def rotate_key(
    name: Name,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the keys so far go on, such as 24h; not at all by default.")
    ] = "0",
    expires: Expires = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Give the caller a new key, which is shown once, in place of those it has."""
    seconds, end = parse_duration(grace), _end(expires)
    row, key = administer(lambda administration: administration.rotate_key(name, grace=seconds, expires_at=end))
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


def _given(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - options of several types
    """The options that were given, as a caller's traits; `none` is what takes a trait away."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = () if value == [NONE] else tuple(value)
        elif value == NONE:
            given[name] = None
    if "claims" in given:
        given["claims"] = dict(map(_claim, given["claims"]))
    return given


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        detail = f"a claim is written as name=value, not {text}"
        raise ParameterInvalid(detail)
    return name, value


def _role(text: str | None) -> str | None:
    if text is None or text == NONE:
        return text
    try:
        return Role(text)
    except ValueError:
        detail = f"a role is one of {', '.join(Role)}, or {NONE}"
        raise ParameterInvalid(detail) from None


def _end(text: str | None) -> datetime | None:
    return None if text is None else parse_end(text, datetime.now(UTC))


def _show_key(row: CallerRow, key: GatewayKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": row.name, "id": row.id, "key": key.reveal()})
    else:
        print(f"{row.name}'s key, shown only now:\n{key.reveal()}")


def _grants(row: CallerRow) -> str:
    return ", ".join(map(str, row.grants))


def _yes(value: bool) -> str:  # noqa: FBT001 - what is shown
    return "yes" if value else "no"


def _members(row: CallerRow) -> dict[str, object]:
    """As the admin API gives it."""
    return Caller.of(row).model_dump(mode="json")


def _for_people(row: CallerRow) -> dict[str, object]:
    texts = {
        "enabled": _yes(row.enabled),
        "grants": _grants(row),
        "networks": ", ".join(row.networks),
        "origins": ", ".join(row.origins),
        "claims": ", ".join(f"{name}={value}" for name, value in row.claims.items()),
        "keys": ", ".join(map(_key_text, row.keys)),
        "declared": _yes(row.declared),
    }
    return _members(row) | texts


def _key_text(key: KeyRow) -> str:
    end = f", ends {key.expires_at}" if key.expires_at else ""
    return f"{key.id} (last used {key.last_used_at or 'never'}{end})"
