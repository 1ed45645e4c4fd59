"""The hosts that the gateway answers for, as pure ASGI: a page that had its own name point here would otherwise speak as its own site."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import HostNotAllowed

__all__ = ["AllowedHosts"]

HEALTH = "/gateway/health/"
PORT = re.compile(r":[0-9]*$", re.ASCII)


class AllowedHosts:
    """Refuses requests whose `Host` is none of the names; within the frame, which gives each its ID.

    The health routes are for everybody: a probe calls the machine's address, and they reveal nothing.

    Args:
        app: what is wrapped.
        names: without ports, in any case; `*.example.com` stands for every name below `example.com`.
        count_refusal: is told of each request that is refused here.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str], count_refusal: Callable[[Scope, str], None]) -> None:
        self._app = app
        self._count_refusal = count_refusal
        self._names = {name.lower() for name in names if not name.startswith("*.")}
        self._endings = tuple(name[1:].lower() for name in names if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything but HTTP is passed on."""
        if scope["type"] != "http" or scope["path"].startswith(HEALTH) or self._allows(_host(scope)):
            await self._app(scope, receive, send)
            return
        refusal = HostNotAllowed("this gateway answers for other hosts")
        self._count_refusal(scope, refusal.code)
        await problem_response(refusal, scope["state"]["request_id"])(scope, receive, send)

    def _allows(self, host: str) -> bool:
        return host in self._names or host.endswith(self._endings)


def _host(scope: Scope) -> str:
    """The name in `Host`, without its port; empty where there is none (HTTP/1.0)."""
    value = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return PORT.sub("", value.decode("latin-1")).lower().removesuffix(".")
