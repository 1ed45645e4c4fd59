"""The way to the operations past FastAPI's routing, as pure ASGI."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.handlers import on_gateway_error
from app.errors import GatewayError

__all__ = ["Endpoint", "Shortcut", "Target"]

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
"""What answers one request."""
Target = tuple[str, str]
"""A method and a path."""


class Shortcut:
    """Wraps the application: a request for one of these targets goes straight to its endpoint, which needs nothing else of FastAPI's.

    Nearly all requests are such. FastAPI would look for the route, hold a stack open for what dependencies open, and pass each message
    through two handlers of exceptions. It still has the routes: it describes them, and answers for other methods.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[Target, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything else is passed on."""
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except GatewayError as error:
            response = await on_gateway_error(request, error)
        await response(scope, receive, send)
