"""The wire: kept-alive connections to the upstream, and one exchange at a time on each, with the moment of the write taken.

aiohttp's connector opens and keeps the connections (names, TLS, time-outs, idle ones closed), and its protocol reads the answers. Its
session is left out: what it does for each request (URLs, cookies, redirects, retries, headers) costs more than all else of a send, and none
of it is wanted.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

import aiohttp
import yarl

from app.upstream.expiry import Expiry

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
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


class Read(Protocol):
    """What was made of an answer. `own`: nothing speaks for its being another send's, so its connection may carry the next."""

    @property
    def own(self) -> bool: ...


Made = TypeVar("Made", bound=Read)


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
        self._kept = WeakSet["ResponseHandler"]()
        # Not aiohttp's own time-outs: they set a timer anew whenever something comes. To connect has its own part of the whole.
        self._gap = Expiry(within.read)
        self._whole = Expiry(within.whole - within.connect)

    async def exchange(self, request: bytes, stamps: Stamps, *, most_bytes: int, read: Callable[[Answer], Awaitable[Made]]) -> Made:
        """Write a request, once, when its turn has come, and take the answer.

        Args:
            request: the whole request.
            stamps: says when it may be written; is told when it was, and when the status line came.
            most_bytes: how large the answer's body may be.
            read: makes of the answer what is returned; however long that takes, it is not the peer's time.

        Raises:
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError: there is no whole answer; a TimeoutError: not in time.
            AnswerTooLarge: its body is larger.
            TurnLost: it was not written.
        """
        connection = await self._connection()
        keep = False
        try:
            protocol = _protocol_of(connection)
            with _Limited(self._whole, _open_transport(protocol)):
                transport = await self._write(protocol, request, stamps)
                answer = await self._answer(protocol, transport, stamps, most_bytes)
            made = await read(answer)
            keep = made.own
            return made
        finally:
            self._give_back(connection, keep=keep)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connector.close()

    async def _connection(self) -> Connection:
        """A kept one to which nothing has come since its last answer, or else a new one, which a peer may have spoken on or closed already.

        Another new one is not tried here: that is for a lane to do, which pauses between.
        """
        while True:
            connection = await self._connector.connect(self._destination, [], self._connecting)
            protocol = _protocol_of(connection)
            if protocol not in self._kept or not protocol.should_close:
                return connection
            # There are so many of them as the connector keeps, and it keeps no more meanwhile: it gives a kept one without waiting.
            connection.close()

    def _give_back(self, connection: Connection, *, keep: bool) -> None:
        if keep:
            self._kept.add(_protocol_of(connection))
            connection.release()
            return
        # Nothing more may leave, nor a late answer be taken for the next send's.
        _protocol_of(connection).abort()
        connection.close()

    async def _write(self, protocol: ResponseHandler, request: bytes, stamps: Stamps) -> asyncio.Transport:
        peer = _address_of(_open_transport(protocol))
        # Everything is ready, the connection too: now it waits for the very moment.
        await stamps.turn()
        transport = _open_transport(protocol)
        # Not before the turn: what came meanwhile would be read as an answer, the beginning of one without a trace.
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        try:
            transport.write(request)
            await flushed(transport)
        finally:
            # In any case: a write that was cut short may have arrived.
            stamps.written(time.monotonic(), peer)
        # The protocol has it no more, once the connection is lost.
        return transport

    async def _answer(self, protocol: ResponseHandler, transport: asyncio.Transport, stamps: Stamps, most_bytes: int) -> Answer:
        with _Limited(self._gap, transport):
            head, content = await _head(protocol)
        stamps.answered(time.monotonic())
        body = b""
        while not content.at_eof():
            with _Limited(self._gap, transport):
                body += await content.readany()
            if len(body) > most_bytes:
                raise AnswerTooLarge(head.code)
        return Answer(head.code, list(head.headers.items()), body)


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


async def _head(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    """The status line and headers of the answer itself, after interim ones."""
    head, content = await protocol.read()
    while head.code == CONTINUE or head.code in INTERIM_STATUSES:
        head, content = await protocol.read()
    return head, content


class _Limited:
    """What happens in the context, on a connection, must be over in time, or the connection is aborted.

    It raises TimeoutError then. Where a body lasts until the connection's end, the abort looks like the body's own end.
    """

    __slots__ = ("_wait",)

    def __init__(self, expiry: Expiry, transport: asyncio.Transport) -> None:
        self._wait = expiry.begin(transport.abort)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        self._wait.over()
        if self._wait.expired and (error is None or isinstance(error, aiohttp.ClientError)):
            raise TimeoutError from error


def _protocol_of(connection: Connection) -> ResponseHandler:
    protocol = connection.protocol
    assert protocol is not None  # noqa: S101 - a connection has one until it is released
    return protocol


def _open_transport(protocol: ResponseHandler) -> asyncio.Transport:
    """What may be written to: nothing has come on it that wasn't asked for, a load balancer's 408 say, nor its end.

    Raises:
        aiohttp.ClientConnectionResetError
    """
    transport = protocol.transport
    if transport is None or transport.is_closing() or protocol.should_close:
        message = "the connection was lost, or spoken on unasked, before the request was written"
        raise aiohttp.ClientConnectionResetError(message)
    return transport


def _address_of(transport: asyncio.Transport) -> str | None:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None
