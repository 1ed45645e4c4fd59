"""Who may use the operators' routes, how a change of theirs is made, and what all these routes say of themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from sqlalchemy.exc import OperationalError

from app.administration import Administration
from app.api.actors import actor_of
from app.api.dependencies import KnownCaller
from app.api.description import CREDENTIALS, problem_answer
from app.api.services import Services
from app.domain import Actor, Caller, Role
from app.errors import AuditUnavailable, InternalError, ParameterInvalid, RequestMalformed, RoleRequired, StartRefused

__all__ = ["ADMIN", "BODY_REFUSED", "REFUSED", "Admin", "Reader", "Reading", "changed", "common", "refusals"]

ADMIN = "/gateway/admin"
REFUSED = [
    "credentials-missing",
    "credentials-invalid",
    "upstream-token-presented",
    "role-required",
    "origin-not-allowed",
    "caller-rate-exceeded",
]
BODY_REFUSED = ["request-malformed", "request-timeout", "body-too-large", "media-type-not-supported"]

T = TypeVar("T")


def _with_role(*roles: Role) -> Callable[[Request, Caller], Awaitable[Actor]]:
    async def allowed(request: Request, caller: KnownCaller) -> Actor:
        if caller.role not in roles:
            detail = f"this needs a caller with the role {' or '.join(roles)}"
            raise RoleRequired(detail, roles=[role.value for role in roles])
        return actor_of(request, caller)

    return allowed


Reader = Depends(_with_role(Role.ADMIN, Role.AUDITOR))
Reading = Annotated[Actor, Reader]
Admin = Annotated[Actor, Depends(_with_role(Role.ADMIN))]


async def changed(services: Services, actor: Actor, work: Callable[[Administration], Awaitable[T]]) -> T:
    """Make a change as this actor, and have this process keep to it before the answer goes out.

    Raises:
        AuditUnavailable: the database can't be written now; nothing was changed.
        RequestMalformed: a value isn't one.
        InternalError: the master keys don't open what is sealed, or the change was made and this process can't keep to it yet.
        GatewayError: as `work`.
    """
    try:
        result = await work(services.administration(actor))
    except OperationalError:
        detail = "this can't be put on record, so nothing was changed"
        raise AuditUnavailable(detail, retry_after=1) from None
    except ParameterInvalid as error:
        raise RequestMalformed(error.detail) from None
    except StartRefused as error:
        raise InternalError(str(error)) from None
    if not await services.heed_changes():
        detail = "the change was made and is on record, but this gateway can't read it and goes on as before; its log says why"
        raise InternalError(detail)
    return result


def common(body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What all these routes have; `body` describes the request's, if it has one."""
    return {"tags": ["Administration"], "openapi_extra": {"security": CREDENTIALS} | ({"requestBody": body} if body else {})}


def refusals(*codes: str, unrecorded: bool = False) -> dict[int | str, dict[str, Any]]:
    """The problems that a route answers beside those of every route here."""
    unavailable: dict[int | str, dict[str, Any]] = {503: problem_answer(["audit-unavailable"])} if unrecorded else {}
    return {"4XX": problem_answer([*REFUSED, *codes])} | unavailable
