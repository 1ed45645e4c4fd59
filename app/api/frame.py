"""The frame around every request, as pure ASGI: its ID, its bounds, the headers of every answer, and one log line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.api.paths import ShownPaths
from app.api.problems import problem_response
from app.api.request_ids import request_id_of
from app.errors import GatewayError, HeadersTooLarge, InternalError, NotFound, UriTooLong

__all__ = ["RequestFrame"]

MOST_HEADERS = 100
MOST_HEADER_BYTES = 64 * 1024
MOST_TARGET_BYTES = 8 * 1024
FIXED_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
OWN_HEADERS = {b"x-request-id", *(name for name, _ in FIXED_HEADERS)}
TRICKS = re.compile(rb"[%;\\]|//|/\.")

log = structlog.get_logger("app.request")


class RequestFrame:
    """Wraps the application.

    Args:
        app: what is wrapped.
        count_refusal: is told of each request that is refused here.
        is_value: whether a text that came with a request is a token's value.
        routes: the application's, whose words alone are logged of a path.
    """

    def __init__(
        self,
        app: ASGIApp,
        count_refusal: Callable[[Scope, str], None],
        is_value: Callable[[Scope, str], bool],
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._app = app
        self._count_refusal = count_refusal
        self._is_value = is_value
        self._shown = ShownPaths(routes)
        self._log = log.bind()  # bound here, once: a logger of the module binds itself anew at every line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything but HTTP is passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"], partial(self._is_value, scope))
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        bound = bind_contextvars(request_id=request_id)
        try:
            await self._guarded(scope, receive, answer)
        finally:
            path = self._shown(scope["path"])
            self._log.info("request", method=scope["method"], path=path, status=answer.status, ms=answer.age_ms())
            reset_contextvars(**bound)

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        refusal = _refusal(scope)
        if refusal:
            self._count_refusal(scope, refusal.code)
            await problem_response(refusal, answer.request_id)(scope, receive, answer)
            return
        try:
            await self._app(scope, receive, answer)
        except Exception:
            # The request's outermost edge.
            log.exception("a request failed by a defect")
            if answer.status is None:
                error = InternalError("the gateway failed; the log holds the trace under this request ID")
                await problem_response(error, answer.request_id)(scope, receive, answer)


class _Answer:
    """`send`, with the headers of every answer added."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._began = time.monotonic()
        self.request_id = request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kept = [header for header in message.get("headers", ()) if header[0] not in OWN_HEADERS]
            message["headers"] = [*kept, (b"x-request-id", self.request_id.encode("ascii")), *FIXED_HEADERS]
        await self._send(message)

    def age_ms(self) -> float:
        return round((time.monotonic() - self._began) * 1_000, 3)


def _refusal(scope: Scope) -> GatewayError | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > MOST_HEADER_BYTES:
        detail = f"a request may have {MOST_HEADERS} headers and {MOST_HEADER_BYTES} bytes of them"
        return HeadersTooLarge(detail)
    path: bytes = _raw_path(scope)
    if len(path) + len(scope["query_string"]) > MOST_TARGET_BYTES:
        detail = f"path and query together may have {MOST_TARGET_BYTES} bytes"
        return UriTooLong(detail)
    if TRICKS.search(path):
        return NotFound("paths are exact, without encoded characters, parameters, dots or doubled slashes")
    return None


def _raw_path(scope: dict[str, Any] | Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw.partition(b"?")[0]
