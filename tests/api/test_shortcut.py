"""The shortcut past FastAPI's routing."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.shortcut import Shortcut


async def answered_by(**scope: Any) -> str:
    """Who answers: the endpoint, or the application."""
    sent: list[Message] = []

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"application"})

    async def endpoint(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("endpoint")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await Shortcut(application, {("PATCH", "/orders/link"): endpoint})(scope, receive, send)
    return str(sent[-1]["body"], "ascii")


async def test_only_the_very_method_and_path_take_it() -> None:
    """Whatever else is asked is the application's to answer."""
    assert await answered_by(type="http", method="PATCH", path="/orders/link", headers=[]) == "endpoint"
    assert await answered_by(type="http", method="GET", path="/orders/link", headers=[]) == "application"
    assert await answered_by(type="http", method="PATCH", path="/orders/link/", headers=[]) == "application"
    assert await answered_by(type="websocket", path="/orders/link", headers=[]) == "application"
