"""The frame around a request, when what it wraps fails."""

from __future__ import annotations

import json

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.frame import RequestFrame


async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """An application with a defect that holds a secret in its message."""
    message = "defect-with-a-secret"
    raise ZeroDivisionError(message)


async def failing_late(_scope: Scope, _receive: Receive, send: Send) -> None:
    """An application that fails in the middle of its answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError


def uncounted(_scope: Scope, _code: str) -> None:
    """Counts nothing."""


def no_value(_scope: Scope, _text: str) -> bool:
    """Knows no token."""
    return False


async def test_a_defect_is_an_internal_error_without_its_details() -> None:
    """The caller gets a problem with the request ID; what went wrong stands in the log only."""
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(RequestFrame(failing, uncounted, no_value)), base_url="http://gateway"
    ) as client:
        answer = await client.get("/", headers={"X-Request-ID": "mine"})

    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] == "mine"
    assert answer.json()["type"] == "/gateway/problems/internal-error"
    assert answer.json()["instance"] == "mine"
    assert "secret" not in json.dumps(answer.json())


async def test_a_defect_after_the_answers_start_ends_it() -> None:
    """What has begun can't be turned into a problem; it just ends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await RequestFrame(failing_late, uncounted, no_value)(scope, receive, send)

    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_what_is_not_http_is_passed_on() -> None:
    """The frame concerns requests only."""
    seen: list[str] = []

    async def inner(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_arguments: object) -> Message:
        return {}

    await RequestFrame(inner, uncounted, no_value)({"type": "lifespan"}, nothing, nothing)  # type: ignore[arg-type]

    assert seen == ["lifespan"]


@pytest.mark.parametrize("path", ["/a%20b", "/a;b", "/a//b", "/./a", "/a\\b"])
async def test_odd_paths_are_refused_and_counted(path: str) -> None:
    """No two ways to write a path lead to the same place."""
    counted: list[str] = []
    frame = RequestFrame(PlainTextResponse("inner"), lambda _scope, code: counted.append(code), no_value)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    await frame(scope, receive, send)

    assert sent[0]["status"] == 404
    assert counted == ["not-found"]
