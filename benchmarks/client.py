"""A client that costs little: one kept-alive HTTP/1.1 connection, one exchange at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

__all__ = ["Address", "Answer", "Connection", "connected", "request_bytes"]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"
STATUS = slice(9, 12)
"""Where the status stands in `HTTP/1.1 200 OK`."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The same as a base URL."""
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `head` is the status line and the headers, as they came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """The first value of a header; empty where it is absent."""
        match = re.search(rf"\r\n{re.escape(name)}: *([^\r]*)".encode(), self.head, re.IGNORECASE)
        return match[1].decode("latin-1") if match else ""


def request_bytes(method: str, target: str, address: Address, headers: dict[str, str] | None = None) -> bytes:
    """A request without a body, as it goes over the wire."""
    fields = {"Host": f"{address.host}:{address.port}"} | (headers or {})
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("ascii")


class Connection(asyncio.Protocol):
    """The protocol of one connection. It understands answers with a `Content-Length`, which are all that our servers give here."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[Answer] | None = None

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            ConnectionError: the connection ended before.
            ValueError: the answer has no `Content-Length`.
        """
        if self._transport is None or self._transport.is_closing():
            message = "the connection is closed"
            raise ConnectionError(message)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and hand the answer over once it is whole."""
        self._buffer += data
        try:
            answer = _whole_answer(self._buffer)
        except ValueError as error:
            self._fail(error)
            return
        if answer and self._answer and not self._answer.done():
            self._buffer = b""
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._fail(exc or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)


@asynccontextmanager
async def connected(address: Address, count: int) -> AsyncIterator[list[Connection]]:
    """So many open connections, closed at the end.

    Raises:
        OSError: nobody listens there.
    """
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    try:
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, address.host, address.port)
            connections.append(connection)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _whole_answer(received: bytes) -> Answer | None:
    """The one answer that was received, once it is whole.

    Raises:
        ValueError: it has no `Content-Length`.
    """
    head_end = received.find(HEAD_END)
    if head_end < 0:
        return None
    length = LENGTH.search(received, 0, head_end)
    if length is None:
        message = "an answer without Content-Length"
        raise ValueError(message)
    body = received[head_end + len(HEAD_END) :]
    if len(body) < int(length[1]):
        return None
    return Answer(int(received[STATUS]), received[:head_end], body)
