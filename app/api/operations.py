"""The routes of the catalogue's operations."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from app.api.dependencies import KnownCaller, TheServices
from app.api.description import described
from app.api.preferences import Preferences, read_preferences
from app.api.problems import problem_response
from app.catalogue import Catalogue
from app.domain import Caller, Operation
from app.errors import GatewayError
from app.gateway import Answer, Asked, Gateway, Journey

__all__ = ["add_operations"]

CLIENT_CLOSED_REQUEST = 499


def add_operations(app: FastAPI, catalogue: Catalogue) -> None:
    """Add a route for each operation, at the upstream's own path."""
    for operation in catalogue:
        app.add_api_route(
            operation.path,
            _endpoint(operation),
            methods=[operation.method],
            operation_id=operation.id,
            summary=operation.summary,
            description=operation.description,
            tags=["Flxpoint"],
            response_class=JSONResponse,
            response_model=None,
            **described(operation),
        )


def _endpoint(operation: Operation) -> Any:  # noqa: ANN401 - FastAPI reads the signature
    async def endpoint(request: Request, services: TheServices, caller: KnownCaller) -> Response:
        arrived = time.monotonic()
        preferences = read_preferences(request.headers.getlist("prefer"), default=services.default_wait, longest=services.max_wait)
        asked = _asked(request, caller, operation, preferences.wait, arrived)
        answer = await _while_connected(request, services.gateway.handle(asked))
        if answer is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return _response(answer, services.gateway, preferences, asked.request_id)

    return endpoint


def _asked(request: Request, caller: Caller, operation: Operation, wait: float, arrived: float) -> Asked:
    return Asked(
        request_id=request.state.request_id,
        caller=caller,
        operation=operation,
        query=request.scope["query_string"],
        has_body=_announces_body(request),
        token_names=tuple(request.headers.getlist("gateway-token")),
        wait=wait,
        arrived=arrived,
        address=request.client.host if request.client else None,
        origin=request.headers.get("origin"),
    )


def _announces_body(request: Request) -> bool:
    """By its headers (RFC 9112, section 6): a body need not be read to be refused."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0").strip("0") != ""


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer | None:
    """The work's result; None, and the work cancelled, when the caller hangs up first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(answer: Answer, gateway: Gateway, preferences: Preferences, request_id: str) -> Response:
    if isinstance(answer.result, GatewayError):
        response: Response = problem_response(answer.result, request_id)
    else:
        response = JSONResponse(list(answer.result))
    if answer.uncertain:
        response.headers["Gateway-Uncertain"] = "true"
    if preferences.applied:
        response.headers["Preference-Applied"] = preferences.applied
    if answer.journey:
        response.headers.update(_journey_headers(answer.journey, gateway))
    return response


def _journey_headers(journey: Journey, gateway: Gateway) -> dict[str, str]:
    """`RateLimit` and `RateLimit-Policy` are of the IETF's draft-ietf-httpapi-ratelimit-headers; the policy is the token's lane."""
    times = {"queue": journey.queued, "upstream": journey.upstream}
    headers = {
        "Gateway-Token": journey.token.name,
        "Gateway-Attempts": str(journey.attempts),
        "Server-Timing": ", ".join(f"{name};dur={(seconds or 0) * 1_000:.1f}" for name, seconds in times.items()),
    }
    lane = gateway.lane_state(journey.token)
    if lane is None:
        return headers
    return headers | {
        "RateLimit-Policy": f'"lane";q={lane.limit};w=1',
        "RateLimit": f'"lane";r={lane.remaining};t={max(0, math.ceil(lane.reset))}',
    }
