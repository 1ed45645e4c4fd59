"""What an application of ours does with errors: each becomes a problem, and is counted as a refusal."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app.api.frame import RequestFrame
from app.api.hosts import AllowedHosts
from app.api.problems import problem_response
from app.api.services import Services
from app.callers import neighbourhood
from app.domain import Caller
from app.errors import GatewayError, MethodNotAllowed, NotFound, RequestMalformed

__all__ = ["answer_in_problems", "on_gateway_error"]

FROM_STATUS: dict[int, type[GatewayError]] = {404: NotFound, 405: MethodNotAllowed}


def answer_in_problems(app: Starlette, hosts: Sequence[str] = ()) -> None:
    """Put the frame around an application and its errors into problems. Its `state.services` must be there when it serves.

    Args:
        app: the application.
        hosts: what the header `Host` may be; none: anything.
    """
    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    if hosts:
        app.add_middleware(AllowedHosts, names=hosts, count_refusal=_count_refusal)
    app.add_middleware(RequestFrame, count_refusal=_count_refusal, is_value=_is_value, routes=app.routes)


async def on_gateway_error(request: Request, error: Exception) -> Response:
    """The answer for a refusal, which is counted."""
    assert isinstance(error, GatewayError)  # noqa: S101 - registered for nothing else
    _count_refusal(request.scope, error.recorded_as)
    return problem_response(error, request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    problem = FROM_STATUS.get(error.status_code, RequestMalformed)(_detail(error, request))
    response = await on_gateway_error(request, problem)
    if error.headers:
        response.headers.update(error.headers)
    return response


def _detail(error: HTTPException, request: Request) -> str:
    if error.status_code == MethodNotAllowed.status:
        return f"this path doesn't take {request.method}"
    return "there is nothing at this path" if error.status_code == NotFound.status else "the request can't be understood"


def _is_value(scope: Scope, text: str) -> bool:
    services: Services = scope["app"].state.services
    return services.tokens.is_value(text)


def _count_refusal(scope: Scope, code: str) -> None:
    caller: Caller | None = scope["state"].get("caller")
    address = scope["client"][0] if scope.get("client") else None
    if address and not caller:
        # A stranger has as many addresses of one IPv6 network as it likes.
        address = neighbourhood(address)
    services: Services = scope["app"].state.services
    services.refusals.count_refusal(address=address, caller=caller.name if caller else None, code=code)
