"""`/gateway/admin/tokens`: the Flxpoint tokens. A value goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from app.api.admin.access import ADMIN, BODY_REFUSED, Admin, Reading, changed, common, refusals
from app.api.bodies import read_model
from app.api.dependencies import TheServices
from app.api.description import json_body
from app.domain import Burst, Pacing, TokenKind, TokenValue
from app.vault import NewToken, TokenChange, TokenRow

__all__ = ["add_token_routes"]

TOKENS = f"{ADMIN}/tokens"
TOKEN = TOKENS + "/{name}"


def _taken_in(given: object) -> TokenValue:
    if not isinstance(given, str):
        message = "a value is a string"
        raise ValueError(message)  # noqa: TRY004 - pydantic takes no TypeError for a refusal
    return TokenValue(given)


Kind = Annotated[TokenKind, Field(strict=False, description="The token's kind at Flxpoint.")]
Rate = Annotated[int, Field(description="Requests a second that Flxpoint allows it, 1 to 1000.")]
BurstName = Annotated[Burst, Field(strict=False, description="`window`: a second's sends go at once. `spaced`: evenly.")]
PacingName = Annotated[
    Pacing, Field(strict=False, description="`learned`: what was learned of the network is used. `proven`: only what no network can break.")
]
Value = Annotated[
    TokenValue,
    PlainValidator(_taken_in),
    WithJsonSchema({"type": "string", "writeOnly": True, "description": "The value: 16 to 512 visible ASCII characters."}),
]
TokenName = Annotated[str, Path(description="The token's name.")]
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class AddedToken(BaseModel):
    """A token to add."""

    model_config = STRICT

    name: str = Field(description="1 to 64 letters, digits, dots, dashes and underscores.")
    kind: Kind
    value: Value
    rate: Rate = 2
    burst: BurstName = Burst.WINDOW
    pacing: PacingName = Pacing.LEARNED


class ChangedToken(BaseModel):
    """What is to be changed of a token; what is null or left out stays."""

    model_config = STRICT

    kind: Kind | None = None
    rate: Rate | None = None
    burst: BurstName | None = None
    pacing: PacingName | None = None


class RotatedToken(BaseModel):
    """The value that takes the old one's place."""

    model_config = STRICT

    value: Value


class Token(BaseModel):
    """A Flxpoint token, without its value."""

    name: str = Field(description="The token's name.")
    kind: str = Field(description="`account`, `source` or `channel`.")
    rate: int = Field(description="Sends a second, at most.")
    burst: str = Field(description="`window` or `spaced`.")
    pacing: str = Field(description="`learned` or `proven`.")
    enabled: bool = Field(description="Whether calls may go with it.")
    fingerprint: str = Field(description="Tells two values apart and says nothing of either: 8 characters of a keyed hash.")
    created: str = Field(description="When it was added, UTC.")
    rotated: str = Field(description="Since when it has its value, UTC.")
    declared: bool = Field(description="Whether it stands in the configuration file, and is changed there only.")

    @classmethod
    def of(cls, row: TokenRow) -> Token:
        """The token of a row."""
        token = row.token
        return cls(
            name=token.name,
            kind=token.kind.value,
            rate=token.rate,
            burst=token.burst.value,
            pacing=token.pacing.value,
            enabled=token.enabled,
            fingerprint=row.fingerprint,
            created=row.created_at,
            rotated=row.rotated_at,
            declared=row.declared,
        )


async def list_tokens(services: TheServices, actor: Reading) -> list[Token]:
    """Every token, by name."""
    return [Token.of(row) for row in await services.administration(actor).tokens()]


async def show_token(services: TheServices, actor: Reading, name: TokenName) -> Token:
    """One token."""
    return Token.of(await services.administration(actor).token(name))


async def add_token(request: Request, response: Response, services: TheServices, actor: Admin) -> Token:
    """Add a token."""
    asked = await read_model(request, AddedToken)
    new = NewToken(asked.name, asked.kind, asked.value, asked.rate, asked.burst, asked.pacing)
    row = await changed(services, actor, lambda administration: administration.add_token(new))
    response.headers["Location"] = f"{TOKENS}/{row.token.name}"
    return Token.of(row)


async def change_token(request: Request, services: TheServices, actor: Admin, name: TokenName) -> Token:
    """Change a token's kind, rate, burst or pacing. Its value stays, and so do the calls that wait for it."""
    asked = await read_model(request, ChangedToken)
    change = TokenChange(asked.kind, asked.rate, asked.burst, asked.pacing)
    return Token.of(await changed(services, actor, lambda administration: administration.change_token(name, change)))


async def rotate_token(request: Request, services: TheServices, actor: Admin, name: TokenName) -> Token:
    """Put a new value in place of the old one; calls that wait go with the new one."""
    value = (await read_model(request, RotatedToken)).value
    return Token.of(await changed(services, actor, lambda administration: administration.rotate_token(name, value)))


async def enable_token(services: TheServices, actor: Admin, name: TokenName) -> Token:
    """Allow a token's use."""
    return Token.of(await changed(services, actor, lambda administration: administration.set_token_enabled(name, enabled=True)))


async def disable_token(services: TheServices, actor: Admin, name: TokenName) -> Token:
    """Stop a token's use; calls get `503 token-unavailable`."""
    return Token.of(await changed(services, actor, lambda administration: administration.set_token_enabled(name, enabled=False)))


async def remove_token(services: TheServices, actor: Admin, name: TokenName) -> None:
    """Remove a token and every grant of it."""
    await changed(services, actor, lambda administration: administration.remove_token(name))


def add_token_routes(app: FastAPI) -> None:
    """Add them."""
    add = app.add_api_route
    read, one = refusals(), refusals("not-found")
    change = refusals("not-found", "conflict", unrecorded=True)
    take, replace = (refusals(*BODY_REFUSED, *codes, unrecorded=True) for codes in (("conflict",), ("not-found", "conflict")))
    add(TOKENS, list_tokens, operation_id="list-tokens", responses=read, **common())
    add(TOKEN, show_token, operation_id="show-token", responses=one, **common())
    made = common(body=json_body(AddedToken))
    add(TOKENS, add_token, methods=["POST"], status_code=201, operation_id="add-token", responses=take, **made)
    other = common(body=json_body(ChangedToken))
    add(TOKEN, change_token, methods=["PATCH"], operation_id="change-token", responses=replace, **other)
    value = common(body=json_body(RotatedToken))
    add(f"{TOKEN}/rotate", rotate_token, methods=["POST"], operation_id="rotate-token", responses=replace, **value)
    add(f"{TOKEN}/enable", enable_token, methods=["POST"], operation_id="enable-token", responses=change, **common())
    add(f"{TOKEN}/disable", disable_token, methods=["POST"], operation_id="disable-token", responses=change, **common())
    add(TOKEN, remove_token, methods=["DELETE"], status_code=204, operation_id="remove-token", responses=change, **common())
