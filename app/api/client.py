"""Whose request it is, by address: as the trusted proxies tell it. Pure ASGI."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from app.callers import client_address
from app.domain import Network

__all__ = ["ClientAddress"]

FORWARDED_FOR = b"x-forwarded-for"


class ClientAddress:
    """Wraps the application: for it, `client` in the scope is the client, not a proxy in front. So records, limits and networks follow.

    Args:
        app: what is wrapped.
        trusted: the networks of the proxies in front; anyone else's `X-Forwarded-For` is ignored.
    """

    def __init__(self, app: ASGIApp, trusted: tuple[Network, ...]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope.get("client"):
            peer, port = scope["client"]
            address = client_address(peer, self._forwarded(scope), self._trusted)
            scope["client"] = (address, port)
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> list[str]:
        if not self._trusted:
            return []
        return [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED_FOR]
