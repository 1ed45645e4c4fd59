"""The routes of the catalogue's operations."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.dependencies import known_caller, services_of
from app.api.description import described
from app.api.hangup import CLIENT_CLOSED_REQUEST, HangUpWatch
from app.api.later import Later
from app.api.preferences import Preferences, read_preferences
from app.api.problems import problem_response
from app.api.shortcut import Endpoint, Shortcut, Target
from app.api.traces import trace_id_of
from app.catalogue import Catalogue
from app.domain import Asked, Caller, Operation
from app.errors import GatewayError
from app.gateway import Answer, Gateway, Journey

__all__ = ["add_operations"]

HEEDED = frozenset({b"prefer", b"gateway-token", b"origin", b"traceparent", b"transfer-encoding", b"content-length", b"idempotency-key"})

Headers = Mapping[bytes, Sequence[str]]
"""All values of each header, by its name."""


def add_operations(app: FastAPI, catalogue: Catalogue) -> None:
    """Add a route for each operation, at the upstream's own path, and the shortcut to it."""
    endpoints: dict[Target, Endpoint] = {(operation.method, operation.path): _endpoint(operation) for operation in catalogue}
    app.add_middleware(Shortcut, endpoints=endpoints)
    for operation in catalogue:
        app.router.add_api_route(
            operation.path,
            endpoints[operation.method, operation.path],
            methods=[operation.method],
            operation_id=operation.id,
            summary=operation.summary,
            description=operation.description,
            tags=["Flxpoint"],
            response_class=JSONResponse,
            response_model=None,
            route_class_override=OperationRoute,
            **described(operation),
        )


class OperationRoute(APIRoute):
    """A route whose endpoint takes the request and nothing else.

    At each request FastAPI would work out what the endpoint depends on, and hold open what the dependencies opened. This one depends on
    nothing: what it needs it asks for itself.
    """

    def __init__(self, path: str, endpoint: Endpoint, **described: Any) -> None:  # noqa: ANN401 - passed on as they come
        super().__init__(path, endpoint, **described)
        self.app = _serving(endpoint)


def _serving(endpoint: Endpoint) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return serve


def _endpoint(operation: Operation) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        caller, services = await known_caller(request), await services_of(request)
        arrived = time.monotonic()
        headers = _heeded(request.scope)
        preferences = read_preferences(headers.get(b"prefer", ()), default=services.default_wait, longest=services.max_wait)
        asked = _asked(request, headers, caller, operation, wait=preferences.wait, arrived=arrived)
        keys = headers.get(b"idempotency-key", ())
        if preferences.respond_async or keys:
            respond = partial(_response, gateway=services.gateway, preferences=preferences, request_id=asked.request_id)
            return await Later(request, services, asked, preferences, respond).answer(keys)
        with HangUpWatch(request) as watch:
            answer = await services.gateway.handle(asked)
        if watch.hung_up:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return _response(answer, services.gateway, preferences, asked.request_id)

    return endpoint


def _heeded(scope: Scope) -> Headers:
    """The headers that count for a call, found in one pass."""
    found: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        if name in HEEDED:
            found.setdefault(name, []).append(value.decode("latin-1"))
    return found


def _asked(  # noqa: PLR0913 - what a request is made of
    request: Request, headers: Headers, caller: Caller, operation: Operation, *, wait: float, arrived: float
) -> Asked:
    client = request.scope.get("client")
    return Asked(
        request_id=request.scope["state"]["request_id"],
        caller=caller,
        operation=operation,
        query=request.scope["query_string"],
        has_body=_announces_body(headers),
        token_names=tuple(headers.get(b"gateway-token", ())),
        wait=wait,
        arrived=arrived,
        address=client[0] if client else None,
        origin=next(iter(headers.get(b"origin", ())), None),
        trace_id=trace_id_of(headers.get(b"traceparent", ())),
    )


def _announces_body(headers: Headers) -> bool:
    """By its headers (RFC 9112, section 6): a body need not be read to be refused."""
    return b"transfer-encoding" in headers or any(length.strip("0") for length in headers.get(b"content-length", ()))


def _response(answer: Answer, gateway: Gateway, preferences: Preferences, request_id: str) -> Response:
    headers = _journey_headers(answer.journey, gateway) if answer.journey else {}
    if answer.uncertain:
        headers["Gateway-Uncertain"] = "true"
    if preferences.applied:
        headers["Preference-Applied"] = preferences.applied
    if isinstance(answer.result, GatewayError):
        return problem_response(answer.result, request_id, headers)
    return JSONResponse(list(answer.result), headers=headers)


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
