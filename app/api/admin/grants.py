"""`/gateway/admin/callers/<name>/grants`: which tokens a caller may use, and for what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import FastAPI, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.admin.access import ADMIN, BODY_REFUSED, Admin, changed, common, refusals
from app.api.admin.caller import Caller, CallerName
from app.api.bodies import read_model
from app.api.dependencies import TheServices
from app.api.description import json_body
from app.api.services import Services
from app.callers import GrantAsked
from app.errors import RequestMalformed

__all__ = ["AskedGrant", "add_grant_routes", "checked_grants"]

GRANT = f"{ADMIN}/callers/{{name}}/grants/{{token}}"

TokenName = Annotated[str, Path(description="The token's name.")]
Operations = Annotated[
    list[str] | None, Field(min_length=1, description="The operations, as the catalogue names them; null or left out: all of them.")
]


class AskedGrant(BaseModel):
    """A token that a caller may use."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    token: str = Field(description="The token's name.")
    operations: Operations = None


class AskedOperations(BaseModel):
    """For what a caller may use the token."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    operations: Operations = None


async def grant(request: Request, services: TheServices, actor: Admin, name: CallerName, token: TokenName) -> Caller:
    """Let a caller use a token, in place of what was granted for that token before."""
    asked = await read_model(request, AskedOperations)
    granted = GrantAsked(token, _checked(services, asked.operations))
    return Caller.of(await changed(services, actor, lambda administration: administration.grant(name, granted)))


async def revoke(services: TheServices, actor: Admin, name: CallerName, token: TokenName) -> Caller:
    """Take a caller's grant for a token back; calls that wait with it are not sent."""
    return Caller.of(await changed(services, actor, lambda administration: administration.revoke(name, token)))


def checked_grants(services: Services, asked: Iterable[AskedGrant]) -> tuple[GrantAsked, ...]:
    """Grants as a body asks for them.

    Raises:
        RequestMalformed: an operation isn't in the catalogue, or a token stands twice.
    """
    grants = tuple(GrantAsked(one.token, _checked(services, one.operations)) for one in asked)
    if len({one.token for one in grants}) != len(grants):
        detail = "a token has one grant at most"
        raise RequestMalformed(detail)
    return grants


def _checked(services: Services, operations: list[str] | None) -> tuple[str, ...] | None:
    if operations is not None and not services.operations.issuperset(operations):
        detail = f"a grant's operations are among those of the catalogue: {', '.join(sorted(services.operations))}"
        raise RequestMalformed(detail)
    return None if operations is None else tuple(operations)


def add_grant_routes(app: FastAPI) -> None:
    """Add them."""
    asked = common(body=json_body(AskedOperations))
    give = refusals(*BODY_REFUSED, "not-found", "conflict", unrecorded=True)
    app.add_api_route(GRANT, grant, methods=["PUT"], operation_id="grant-token", responses=give, **asked)
    take = refusals("not-found", "conflict", unrecorded=True)
    app.add_api_route(GRANT, revoke, methods=["DELETE"], operation_id="revoke-token", responses=take, **common())
