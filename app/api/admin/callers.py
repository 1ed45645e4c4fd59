"""`/gateway/admin/callers`: the services and frontends that may call. A key is shown once, when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.admin.access import ADMIN, BODY_REFUSED, Admin, Reading, changed, common, refusals
from app.api.admin.caller import Caller, CallerName, KeyedCaller
from app.api.admin.grants import AskedGrant, checked_grants
from app.api.bodies import read_model
from app.api.dependencies import TheServices
from app.api.description import json_body
from app.api.services import Services
from app.callers import NewCaller
from app.domain import Role
from app.errors import RequestMalformed

__all__ = ["add_caller_routes"]

CALLERS = f"{ADMIN}/callers"
CALLER = CALLERS + "/{name}"
LONGEST_SECONDS = 366 * 86_400 * 10
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

Grants = Annotated[list[AskedGrant], Field(description="The tokens that it may use.")]
DefaultToken = Annotated[str | None, Field(description="The token for calls that name none, one of those granted; null: none.")]
RoleName = Annotated[Role | None, Field(strict=False, description="What it may do with the gateway itself; null: nothing.")]
Weight = Annotated[int, Field(description="Its share of a token's turns, against other callers', 1 to 1000.")]
Rate = Annotated[str | None, Field(description="The gateway's own limit on it, such as `100/second`; null: the gateway's default.")]
Networks = Annotated[list[str], Field(description="Where it may call from, such as `10.0.0.0/8`; empty: everywhere.")]
Origins = Annotated[
    list[str], Field(description="The origins of its pages, such as `https://shop.example`; empty: the gateway's own list.")
]
Claims = Annotated[dict[str, str], Field(description="What a JWT of the identity provider must hold to be its own; empty: none is.")]
ExpiresIn = Annotated[
    int | None, Field(ge=1, le=LONGEST_SECONDS, description="Seconds until the new key ends; null or left out: not by itself.")
]


class ChangedCaller(BaseModel):
    """What is to be changed of a caller; what is left out stays. A list takes the place of the one before, as a whole."""

    model_config = STRICT

    grants: Grants = []
    default_token: DefaultToken = None
    role: RoleName = None
    weight: Weight = 1
    rate: Rate = None
    networks: Networks = []
    origins: Origins = []
    claims: Claims = {}


class AddedCaller(ChangedCaller):
    """A caller to add."""

    name: str = Field(description="1 to 64 letters, digits, dots, dashes and underscores.")
    expires_in: ExpiresIn = None


class RotatedKey(BaseModel):
    """How the keys so far end, and the new one."""

    model_config = STRICT

    grace: float = Field(0, ge=0, le=366 * 86_400, description="Seconds that the keys so far go on.")
    expires_in: ExpiresIn = None


async def list_callers(services: TheServices, actor: Reading) -> list[Caller]:
    """Every caller, by name."""
    return [Caller.of(row) for row in await services.administration(actor).callers()]


async def show_caller(services: TheServices, actor: Reading, name: CallerName) -> Caller:
    """One caller."""
    return Caller.of(await services.administration(actor).caller(name))


async def add_caller(request: Request, response: Response, services: TheServices, actor: Admin) -> KeyedCaller:
    """Add a caller; the answer holds its key, which is shown only now."""
    asked = await read_model(request, AddedCaller)
    new = replace(NewCaller(asked.name), **await _traits(services, actor, asked, set(ChangedCaller.model_fields)))
    end = _end(asked.expires_in)
    row, key = await changed(services, actor, lambda administration: administration.add_caller(new, expires_at=end))
    response.headers["Location"] = f"{CALLERS}/{row.name}"
    return KeyedCaller.with_key(row, key)


async def change_caller(request: Request, services: TheServices, actor: Admin, name: CallerName) -> Caller:
    """Change a caller; its keys stay."""
    asked = await read_model(request, ChangedCaller)
    if not asked.model_fields_set:
        detail = "there is nothing to change"
        raise RequestMalformed(detail)
    traits = await _traits(services, actor, asked, asked.model_fields_set)
    row = await changed(services, actor, lambda administration: administration.adjust_caller(name, lambda now: replace(now, **traits)))
    return Caller.of(row)


async def rotate_key(request: Request, services: TheServices, actor: Admin, name: CallerName) -> KeyedCaller:
    """Give a caller a new key, which is shown only now; the keys so far go on for the grace time, or not at all."""
    asked = await read_model(request, RotatedKey)
    end = _end(asked.expires_in)
    row, key = await changed(services, actor, lambda administration: administration.rotate_key(name, grace=asked.grace, expires_at=end))
    return KeyedCaller.with_key(row, key)


async def enable_caller(services: TheServices, actor: Admin, name: CallerName) -> Caller:
    """Let a caller call again."""
    return Caller.of(await changed(services, actor, lambda administration: administration.set_caller_enabled(name, enabled=True)))


async def disable_caller(services: TheServices, actor: Admin, name: CallerName) -> Caller:
    """Let a caller call no more, whatever its credential; nothing of it is lost."""
    return Caller.of(await changed(services, actor, lambda administration: administration.set_caller_enabled(name, enabled=False)))


async def remove_caller(services: TheServices, actor: Admin, name: CallerName) -> None:
    """Remove a caller with its keys and grants."""
    await changed(services, actor, lambda administration: administration.remove_caller(name))


async def _traits(services: Services, actor: Admin, asked: ChangedCaller, named: Iterable[str]) -> dict[str, Any]:
    """The traits that a body names.

    Raises:
        RequestMalformed: a grant, or the default token, isn't one; what the body held is not said back.
    """
    traits = {name: getattr(asked, name) for name in named}
    if "grants" in traits:
        traits["grants"] = checked_grants(services, asked.grants)
    tokens = {one.token for one in traits.get("grants", ())} | ({traits["default_token"]} if traits.get("default_token") else set())
    if tokens - {row.token.name for row in await services.administration(actor).tokens()}:
        detail = "a grant, or the default token, names a token that there isn't"
        raise RequestMalformed(detail)
    return traits


def _end(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)


def add_caller_routes(app: FastAPI) -> None:
    """Add them."""
    add = app.add_api_route
    read, one = refusals(), refusals("not-found")
    change = refusals("not-found", "conflict", unrecorded=True)
    take, replaced = (refusals(*BODY_REFUSED, *codes, unrecorded=True) for codes in (("conflict",), ("not-found", "conflict")))
    add(CALLERS, list_callers, operation_id="list-callers", responses=read, **common())
    add(CALLER, show_caller, operation_id="show-caller", responses=one, **common())
    made = common(body=json_body(AddedCaller))
    add(CALLERS, add_caller, methods=["POST"], status_code=201, operation_id="add-caller", responses=take, **made)
    other = common(body=json_body(ChangedCaller))
    add(CALLER, change_caller, methods=["PATCH"], operation_id="change-caller", responses=replaced, **other)
    key = common(body=json_body(RotatedKey))
    add(f"{CALLER}/rotate-key", rotate_key, methods=["POST"], operation_id="rotate-key", responses=replaced, **key)
    add(f"{CALLER}/enable", enable_caller, methods=["POST"], operation_id="enable-caller", responses=change, **common())
    add(f"{CALLER}/disable", disable_caller, methods=["POST"], operation_id="disable-caller", responses=change, **common())
    add(CALLER, remove_caller, methods=["DELETE"], status_code=204, operation_id="remove-caller", responses=change, **common())
