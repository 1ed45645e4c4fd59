"""Bodies that a route reads: what is taken, what is refused and how, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.api import bodies
from app.api.bodies import read_json, read_model
from app.api.problems import problem_response
from app.cli.serving import free_port, gateway_config, running
from app.errors import GatewayError

SECRET = "a-secret-that-stood-in-the-body"
LIMIT = 1_000


class Asked(BaseModel):
    """What the second route takes."""

    model_config = ConfigDict(extra="forbid")

    name: str
    value: SecretStr
    rate: int = 2


async def echo(request: Request) -> Response:
    """Reads JSON and says it back."""
    return JSONResponse({"read": await read_json(request, LIMIT)})


async def ask(request: Request) -> Response:
    """Reads a model and says its name back."""
    return JSONResponse({"name": (await read_model(request, Asked)).name})


async def on_error(_: Request, error: Exception) -> Response:
    """As the gateway answers."""
    assert isinstance(error, GatewayError)
    return problem_response(error, "request")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code."""
        return str(json.loads(self.body)["type"]).rpartition("/")[2]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server with both routes."""
    routes = [Route("/echo", echo, methods=["POST"]), Route("/ask", ask, methods=["POST"])]
    app = Starlette(routes=routes, exception_handlers={GatewayError: on_error})
    async with running(gateway_config(app, host="127.0.0.1", port=0, grace=0), free_port()) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def answer_of(reader: asyncio.StreamReader) -> Answer:
    """The next answer."""
    async with asyncio.timeout(10):
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields)
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(status.split()[1]), headers, body)


def request(body: bytes, *headers: str, path: str = "/echo", length: int | None = None) -> bytes:
    """A POST, as JSON unless the headers say otherwise."""
    given = headers or ("Content-Type: application/json",)
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", *given, f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode() + body


async def asked(body: bytes, *headers: str, path: str = "/echo") -> Answer:
    """The answer to a POST on a connection of its own."""
    async with connected() as (reader, writer):
        writer.write(request(body, *headers, path=path))
        return await answer_of(reader)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON ; charset=UTF-8", 'application/json;charset="utf-8"'])
async def test_json_is_read(kind: str) -> None:
    """A document of the right type is read whole, large numbers and all."""
    answer = await asked('{"é": [1, 9223372036854775808, null]}'.encode(), f"Content-Type: {kind}")

    assert answer.status == 200
    assert json.loads(answer.body) == {"read": {"é": [1, 2**63, None]}}


async def test_a_chunked_body_is_read() -> None:
    """However it is framed."""
    async with connected() as (reader, writer):
        head = b"POST /echo HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"3\r\n[1,\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"2\r\n2]\r\n0\r\n\r\n")
        answer = await answer_of(reader)

    assert json.loads(answer.body) == {"read": [1, 2]}


@pytest.mark.parametrize(
    "headers",
    [
        ("Accept: */*",),
        ("Content-Type: text/plain",),
        ("Content-Type: application/x-www-form-urlencoded",),
        ("Content-Type: application/json-seq",),
        ("Content-Type: application/json; charset=utf-16",),
        ("Content-Type: application/json", "Content-Encoding: gzip"),
    ],
)
async def test_another_type_is_refused(headers: Iterable[str]) -> None:
    """What a page can send without asking first (a form, text) and what is encoded is not read."""
    answer = await asked(b"[1]", *headers)

    assert (answer.status, answer.code) == (415, "media-type-not-supported")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        SECRET.encode(),
        f'{{"value": "{SECRET}",}}'.encode(),
        f'{{"value": "{SECRET}", "value": "other"}}'.encode(),
        f'[{{"value": "{SECRET}", "v\\u0061lue": "other"}}]'.encode(),
        b"[NaN]",
        b"[Infinity]",
        b'["\\ud800"]',
        b'["\xff"]',
        b"\xef\xbb\xbf[1]",
        "[1]".encode("utf-16"),
        b"[1] [2]",
        b"[" * 999,
        b"9" * 999 + b"x",
    ],
)
async def test_what_is_no_json_is_refused_without_a_word_of_it(body: bytes) -> None:
    """Readers of JSON disagree on such documents; and what a body held (a token, say) never comes back."""
    answer = await asked(body)

    assert (answer.status, answer.code) == (400, "request-malformed")
    assert SECRET.encode() not in answer.body


async def test_a_body_that_is_announced_too_large_is_not_waited_for() -> None:
    """It is refused by its length; what comes of it all the same is passed over, so that whoever still writes it gets the answer."""
    async with connected() as (reader, writer):
        writer.write(request(b"", length=1_000_000))
        answer = await answer_of(reader)
        writer.write(b" " * 1_000_000 + request(b"[1]"))
        next_answer = await answer_of(reader)

    assert (answer.status, answer.code) == (413, "body-too-large")
    assert json.loads(next_answer.body) == {"read": [1]}


async def test_a_chunked_body_is_bounded_too() -> None:
    """A body of unknown length is read up to the limit and not beyond; the rest of it is no next request."""
    async with connected() as (reader, writer):
        head = b"POST /echo HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"3e9\r\n" + b" " * (LIMIT + 1) + b"\r\n")
        answer = await answer_of(reader)
        writer.write(b"3e9\r\n" + b" " * (LIMIT + 1) + b"\r\n0\r\n\r\n" + request(b"[1]"))
        next_answer = await answer_of(reader)

    assert (answer.status, answer.code) == (413, "body-too-large")
    assert json.loads(next_answer.body) == {"read": [1]}


async def test_a_slow_body_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that isn't whole in time is refused, however steadily it drips, and the connection ends."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.5)
    async with connected() as (reader, writer):
        writer.write(request(b"", length=100))
        for _ in range(4):
            await asyncio.sleep(0.05)
            writer.write(b" ")
        answer = await answer_of(reader)
        rest = await reader.read()

    assert (answer.status, answer.code) == (408, "request-timeout")
    assert rest == b""


async def test_a_model_is_read() -> None:
    """A body that fits becomes the model."""
    answer = await asked(b'{"name": "shop", "value": "secret"}', path="/ask")

    assert json.loads(answer.body) == {"name": "shop"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"name": "shop"}, "value"),
        ({"name": "shop", "value": {"nested": SECRET}}, "value"),
        ({"name": [SECRET], "value": "x", "rate": SECRET}, "name, rate"),
        ({"name": "shop", "value": "x", SECRET: 1}, "name, rate, value"),
        ([SECRET], "name, rate, value"),
        (SECRET, "name, rate, value"),
    ],
)
async def test_a_body_that_fits_no_model_is_refused_in_the_models_words(body: object, named: str) -> None:
    """The detail names the members that are missing or wrong, and never a value or a name of the body's."""
    answer = await asked(json.dumps(body).encode(), path="/ask")

    assert (answer.status, answer.code) == (400, "request-malformed")
    assert json.loads(answer.body)["detail"].endswith(f": {named}")
    assert SECRET.encode() not in answer.body
