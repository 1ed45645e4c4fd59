"""`/gateway/me`: who the caller is, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from app.api.dependencies import CallerLimit, KnownCaller, TheServices
from app.api.description import CREDENTIALS, problem_answer
from app.api.services import Tokens
from app.catalogue import Catalogue
from app.domain import Caller, CredentialKind, Grant, Role, TokenKind, TokenRef

__all__ = ["Me", "add_me_route"]

REFUSED = ["credentials-missing", "credentials-invalid", "upstream-token-presented", "origin-not-allowed", "caller-rate-exceeded"]


class Credential(BaseModel):
    """What the caller proved itself with."""

    kind: CredentialKind = Field(description="A gateway key, a JWT of the identity provider, or a ticket of the gateway's own.")
    id: str = Field(description="The credential's ID, as it stands in records; never its secret.")
    expires_at: datetime | None = Field(description="When it ends; null: not by itself.")


class UsableToken(BaseModel):
    """A token that the caller has a grant for."""

    name: str = Field(description="The token's name, for the header `Gateway-Token`.")
    kind: TokenKind = Field(description="What Flxpoint made it for.")
    enabled: bool = Field(description="Whether an operator lets it be used now.")
    default: bool = Field(description="Whether calls that name no token go with this one.")
    operations: list[str] = Field(description="The operations that the grant allows and the token's kind can do.")


class Me(BaseModel):
    """The caller, as the gateway knows it."""

    name: str = Field(description="The caller's name.")
    role: Role | None = Field(description="What it may do with the gateway itself: `auditor` reads, `admin` also changes; null: nothing.")
    credential: Credential = Field(description="What this request proved it with.")
    address: str | None = Field(description="Where this request came from, as the gateway sees it behind its trusted proxies.")
    weight: int = Field(description="Its share of a token's turns, against other callers'.")
    rate: str = Field(description="The gateway's own limit on it, such as `100/second`.")
    tokens: list[UsableToken] = Field(description="The tokens that it may use, by name.")
    origins: list[str] = Field(description="The origins that its pages may have; empty: the gateway's own list.")
    only_parameter: str | None = Field(description="The parameter that the calls must have with those IDs; null: any.")
    only_ids: list[int] | None = Field(description="The only IDs that its calls may name; null: all.")


def add_me_route(app: FastAPI, catalogue: Catalogue) -> None:
    """Add it."""
    responses: dict[int | str, dict[str, Any]] = {"4XX": problem_answer(REFUSED)}
    described: dict[str, Any] = {"operation_id": "me", "tags": ["Gateway"], "openapi_extra": {"security": CREDENTIALS}}
    app.add_api_route("/gateway/me", _me_over(catalogue), responses=responses, **described)


def _me_over(catalogue: Catalogue) -> Callable[..., Awaitable[Me]]:
    async def me(request: Request, services: TheServices, caller: KnownCaller) -> Me:
        """Who the caller is, and what it may use: nothing is said of tokens that it has no grant for."""
        limit: CallerLimit = request.app.state.caller_limit
        return Me(
            name=caller.name,
            role=caller.role,
            credential=_credential(caller),
            address=request.client.host if request.client else None,
            weight=caller.weight,
            rate=limit.rate_of(caller),
            tokens=_usable(caller, services.tokens, catalogue),
            origins=sorted(caller.origins),
            only_parameter=None if caller.only_ids is None else caller.only_parameter,
            only_ids=None if caller.only_ids is None else sorted(caller.only_ids),
        )

    return me


def _credential(caller: Caller) -> Credential:
    end = None if caller.expires_at is None else datetime.fromtimestamp(caller.expires_at, UTC)
    return Credential(kind=caller.credential, id=caller.credential_id, expires_at=end)


def _usable(caller: Caller, tokens: Tokens, catalogue: Catalogue) -> list[UsableToken]:
    found = [(grant, tokens.token(grant.token_id)) for grant in caller.grants]
    known = [(grant, token) for grant, token in found if token]
    only = len(known) == 1
    return [_shown(grant, token, catalogue, default=only or token.id == caller.default_token_id) for grant, token in known]


def _shown(grant: Grant, token: TokenRef, catalogue: Catalogue, *, default: bool) -> UsableToken:
    operations = [one.id for one in catalogue if grant.covers(one.id) and token.kind in one.token_kinds]
    return UsableToken(name=token.name, kind=token.kind, enabled=token.enabled, default=default, operations=operations)
