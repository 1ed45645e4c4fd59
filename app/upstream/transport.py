"""The transport: httpx2 over aiohttp, with the moment of the write taken, one write a send, and nothing remembered between sends."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from httpx_aiohttp.httpx2 import AiohttpTransport

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from app.domain import Stamps

__all__ = ["SecondWrite", "current_stamps", "flushed", "stamping_transport"]

IDLE_CONNECTION_SECONDS = 60
BUFFER_POLL_SECONDS = 0.001

current_stamps: ContextVar[Stamps | None] = ContextVar("current_stamps", default=None)
"""Where the send of this task wants the moment of its write told; taken by the first write."""


class SecondWrite(aiohttp.ClientError):
    """The client tried to write a send twice; the second write was refused."""


class StampingRequest(ClientRequest):
    """A request that tells when it was written.

    aiohttp's own hook `on_request_headers_sent` fires before the write, and a body follows in a task of its own. So the moment is taken
    here, after the transport's buffer has drained. It is never early, which is what keeps the window.
    """

    async def send(self, conn: Connection) -> ClientResponse:
        """Write the request, then stamp.

        Raises:
            SecondWrite: this send was written before.
            TurnLost: it may not be written any more.
        """
        stamps = current_stamps.get()
        if stamps is None:
            message = "a send is written once"
            raise SecondWrite(message)
        current_stamps.set(None)
        transport = cast("asyncio.Transport", conn.transport)
        peer = _address_of(transport)
        # Everything is ready, the connection too: now it waits for the very moment.
        await stamps.turn()
        response = await super().send(conn)
        try:
            await flushed(transport)
        finally:
            # In any case: a write that was cut short may have arrived.
            stamps.written(time.monotonic(), peer)
        return response


def _address_of(transport: asyncio.Transport) -> str | None:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None


async def flushed(transport: asyncio.Transport) -> None:
    """Wait until the socket has everything; if that is cut short, abort, so that nothing more leaves."""
    try:
        # uvloop writes at the end of the loop's turn, so that turn must end first.
        await asyncio.sleep(0)
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(BUFFER_POLL_SECONDS)
    except BaseException:
        transport.abort()
        raise


def stamping_transport(verify: ssl.SSLContext) -> AiohttpTransport:
    """A transport for sends. It opens its session on first use, on the loop that runs then."""
    return AiohttpTransport(client=lambda: _session(verify))


def _session(verify: ssl.SSLContext) -> aiohttp.ClientSession:
    # Lanes limit what goes out, so the connector does not.
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=IDLE_CONNECTION_SECONDS, ssl=verify)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=StampingRequest,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        trust_env=False,
    )
    # aiohttp retries GET and PUT in silence when a kept-alive connection turns out dead; that would be a send nobody counted.
    session._retry_connection = False  # noqa: SLF001 - there is no public switch; a test holds this one
    return session
