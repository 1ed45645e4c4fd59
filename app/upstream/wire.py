"""The wire: kept-alive connections to the upstream, and one exchange at a time on each, with the moment of the write taken.

aiohttp's connector opens and keeps the connections (names, TLS, time-outs, idle ones closed), and its protocol reads the answers. Its
session is left out: what it does for each request (URLs, cookies, redirects, retries, headers) costs more than all else of a send, and none
of it is wanted.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiohttp
import yarl

from app.expiry import Expiry

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader

    from app.domain import Stamps

__all__ = ["Answer", "AnswerTooLarge", "TimeLimits", "Wire", "flushed"]

IDLE_CONNECTION_SECONDS = 60
BUFFER_POLL_SECONDS = 0.001
INTERIM_STATUSES = range(102, 200)
CONTINUE = 100


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The seconds that a send may take: to connect, to wait for the next bytes of the answer, and in all."""

    connect: float = 5.0
    read: float = 30.0
    whole: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: names and values of its headers, and its body, as they came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class AnswerTooLarge(Exception):
    """The answer has this status, and more bytes than are taken."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Wire:
    """The connections to one upstream. Make it on the loop that it is used on.

    Args:
        url: where the upstream is.
        verify: how its certificate is verified.
        within: how long a send may take.
    """

    def __init__(self, url: str, verify: ssl.SSLContext, within: TimeLimits) -> None:
        # Lanes limit what goes out, so the connector does not.
        self._connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=IDLE_CONNECTION_SECONDS, ssl=verify)
        # It only tells the connector where to; it is never sent.
        self._destination = aiohttp.ClientRequest("GET", yarl.URL(url), loop=asyncio.get_running_loop())
        self._connecting = aiohttp.ClientTimeout(connect=within.connect, sock_connect=within.connect)
        self._read_seconds = within.read
        self._expiry = Expiry(within.whole - within.connect)

    async def exchange(self, request: bytes, stamps: Stamps, *, most_bytes: int) -> Answer:
        """Write a request, once, when its turn has come, and read the answer.

        Args:
            request: the whole request.
            stamps: says when it may be written; is told when it was, and when the status line came.
            most_bytes: how large the answer's body may be.

        Raises:
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError: there is no whole answer; a TimeoutError: not in time.
            AnswerTooLarge: its body is larger.
            TurnLost: it was not written.
        """
        connection = await self._connection()
        transport = cast("asyncio.Transport", connection.transport)
        limit = self._expiry.begin(transport.abort)
        try:
            answer = await self._exchange(_protocol_of(connection), request, stamps, most_bytes)
        except BaseException as error:
            # Nothing more may leave, nor a late answer be taken for the next send's.
            transport.abort()
            connection.close()
            if limit.expired and isinstance(error, aiohttp.ClientError):
                raise TimeoutError from error
            raise
        finally:
            limit.over()
        connection.release()
        if limit.expired:
            # Where a body lasts until the connection's end, the abort looks like the body's own end.
            raise TimeoutError
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connector.close()

    async def _connection(self) -> Connection:
        """One to which nothing has come since its last answer: a kept-alive one, or a new one."""
        while True:
            connection = await self._connector.connect(self._destination, [], self._connecting)
            if not _protocol_of(connection).should_close:
                return connection
            connection.close()

    async def _exchange(self, protocol: ResponseHandler, request: bytes, stamps: Stamps, most_bytes: int) -> Answer:
        await self._write(protocol, request, stamps)
        return await _answer(protocol, stamps, most_bytes)

    async def _write(self, protocol: ResponseHandler, request: bytes, stamps: Stamps) -> None:
        transport = cast("asyncio.Transport", protocol.transport)
        peer = _address_of(transport)
        protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=self._read_seconds)
        # Everything is ready, the connection too: now it waits for the very moment.
        await stamps.turn()
        if transport.is_closing():
            message = "the connection was lost before the request was written"
            raise aiohttp.ClientConnectionResetError(message)
        try:
            transport.write(request)
            await flushed(transport)
        finally:
            # In any case: a write that was cut short may have arrived.
            stamps.written(time.monotonic(), peer)
        protocol.start_timeout()


async def flushed(transport: asyncio.Transport) -> None:
    """Wait until the socket has everything; if that is cut short, abort, so that nothing more leaves.

    uvloop and asyncio both hand a write to the socket at once, as far as it takes it; the rest is what stands in the buffer.
    """
    try:
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(BUFFER_POLL_SECONDS)
    except BaseException:
        transport.abort()
        raise


async def _answer(protocol: ResponseHandler, stamps: Stamps, most_bytes: int) -> Answer:
    head, content = await protocol.read()
    while head.code == CONTINUE or head.code in INTERIM_STATUSES:
        head, content = await protocol.read()
    stamps.answered(time.monotonic())
    body = await _body(content, most_bytes)
    if body is None:
        raise AnswerTooLarge(head.code)
    return Answer(head.code, list(head.headers.items()), body)


async def _body(content: StreamReader, most_bytes: int) -> bytes | None:
    """All of it; None where it is larger."""
    body = b""
    while not content.at_eof():
        body += await content.readany()
        if len(body) > most_bytes:
            return None
    return body


def _protocol_of(connection: Connection) -> ResponseHandler:
    protocol = connection.protocol
    assert protocol is not None  # noqa: S101 - a connection has one until it is released
    return protocol


def _address_of(transport: asyncio.Transport) -> str | None:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None
