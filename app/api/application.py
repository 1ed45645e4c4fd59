"""Building the application: routes, handlers, the frame."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Lifespan, Scope

from app.api.dependencies import CallerLimit
from app.api.description import describe_api
from app.api.frame import RequestFrame
from app.api.operations import add_operations
from app.api.own import add_own_routes
from app.api.problems import problem_response
from app.api.services import Readiness, Services
from app.catalogue import Catalogue
from app.domain import Caller
from app.errors import GatewayError, MethodNotAllowed, NotFound, RequestMalformed

__all__ = ["Readiness", "Services", "build_app"]

DESCRIPTION = (
    "Calls Flxpoint for those who must not hold its tokens. Paths outside `/gateway/` are Flxpoint's own: "
    "change the base URL and the token, and a client of Flxpoint works here."
)
FROM_STATUS: dict[int, type[GatewayError]] = {404: NotFound, 405: MethodNotAllowed}


def build_app(catalogue: Catalogue, *, version: str, caller_rate: str, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """The application, whose `lifespan` must set `app.state.services`.

    Args:
        catalogue: the operations to offer.
        version: the product's version.
        caller_rate: the limit on a caller that has none of its own, in slowapi's syntax.
        lifespan: opens and closes what the services need.
    """
    app = FastAPI(
        title="Flxpoint gateway",
        version=version,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/gateway/openapi.json",
        redirect_slashes=False,
    )
    app.state.caller_limit = CallerLimit(caller_rate)
    app.add_exception_handler(GatewayError, _on_gateway_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(RequestFrame, count_refusal=_count_refusal)
    add_operations(app, catalogue)
    add_own_routes(app)
    app.openapi = lambda: _described_once(app)  # type: ignore[method-assign]
    return app


def _described_once(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe_api(app)
    return app.openapi_schema


async def _on_gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 - registered for nothing else
    _count_refusal(request.scope, error.code)
    return problem_response(error, request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    problem = FROM_STATUS.get(error.status_code, RequestMalformed)(_detail(error, request))
    response = await _on_gateway_error(request, problem)
    if error.headers:
        response.headers.update(error.headers)
    return response


def _detail(error: HTTPException, request: Request) -> str:
    if error.status_code == MethodNotAllowed.status:
        return f"this path doesn't take {request.method}"
    return "there is nothing at this path" if error.status_code == NotFound.status else "the request can't be understood"


def _count_refusal(scope: Scope, code: str) -> None:
    caller: Caller | None = scope["state"].get("caller")
    address = scope["client"][0] if scope.get("client") else None
    services: Services = scope["app"].state.services
    services.refusals.count_refusal(address=address, caller=caller.name if caller else None, code=code)
