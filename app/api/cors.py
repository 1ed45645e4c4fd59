"""Calls of other origins' pages (Fetch standard, "CORS protocol"): what preflights are told, and which answers a page may read.

Starlette's own middleware has one list of methods for all paths, tells them to preflights from anywhere, always allows headers that the
gateway doesn't heed, and refuses in plain text. What could be kept of it is less than what would have to be replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.services import Services
from app.errors import MethodNotAllowed, OriginNotAllowed

__all__ = ["CrossOriginHeaders", "add_preflights"]

OWN = "/gateway/"
OWN_FOR_PAGES = ("/gateway/me", "/gateway/jobs", "/gateway/batches")
HEADERS_IN = ("Authorization", "Content-Type", "Gateway-Token", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-API-TOKEN", "X-Request-ID")
HEADERS_OUT = (
    "Gateway-Attempts",
    "Gateway-Token",
    "Gateway-Uncertain",
    "Idempotent-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "X-Request-ID",
)
PREFLIGHT_SECONDS = 600
VARY = (b"vary", b"Origin")
EXPOSE = (b"access-control-expose-headers", ", ".join(HEADERS_OUT).encode())


class CrossOriginHeaders:
    """Says on every answer of a path for pages that it depends on the origin, and lets pages of known origins read it, errors too.

    It stands outside all that answers. Whether a page may call is decided elsewhere, by the caller's own origins: to read why it may not,
    it is enough that some caller's page has this origin. Credentials of the browser's own, such as cookies, are never allowed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; what is no path for pages is passed on."""
        if scope["type"] != "http" or not _is_for_pages(scope["path"]):
            await self._app(scope, receive, send)
            return
        added = _headers_for(scope)

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_readable)


def add_preflights(app: FastAPI) -> None:
    """Have preflights answered on every path for pages that the application has by now."""
    methods: defaultdict[str, set[str]] = defaultdict(set)
    for route in app.routes:
        if isinstance(route, APIRoute) and _is_for_pages(route.path):
            methods[route.path].update(route.methods or ())
    for path, allowed in methods.items():
        app.add_route(path, _preflight(", ".join(sorted(allowed))), methods=["OPTIONS"], include_in_schema=False)


def _preflight(methods: str) -> Callable[[Request], Awaitable[Response]]:
    async def preflight(request: Request) -> Response:
        origins = request.headers.getlist("origin")
        if not origins or "access-control-request-method" not in request.headers:
            raise HTTPException(MethodNotAllowed.status, headers={"Allow": methods})
        services: Services = request.app.state.services
        if len(origins) != 1 or not services.origins.known(origins[0]):
            detail = "no caller's pages have this origin"
            raise OriginNotAllowed(detail)
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Methods": methods,
                "Access-Control-Allow-Headers": ", ".join(HEADERS_IN),
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            },
        )

    return preflight


def _is_for_pages(path: str) -> bool:
    """All but the gateway's own, and of those what concerns calls."""
    return not path.startswith(OWN) or any(path == one or path.startswith(one + "/") for one in OWN_FOR_PAGES)


def _headers_for(scope: Scope) -> list[tuple[bytes, bytes]]:
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    services: Services = scope["app"].state.services
    if len(origins) != 1 or not services.origins.known(origins[0].decode("latin-1")):
        return [VARY]
    return [VARY, (b"access-control-allow-origin", origins[0]), EXPOSE]
