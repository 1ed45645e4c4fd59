"""The moment of the write, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx2
import pytest

from app.upstream.transport import SecondWrite, current_stamps, flushed, stamping_transport
from tests.upstream.peers import answering

LARGE = bytes(8 * 2**20)


@asynccontextmanager
async def transport_to_a_peer_that_does_not_read() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A connection whose other end reads only when the test does."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # noqa: FBT003 - the socket's own signature
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    yield transport, theirs
    transport.abort()
    theirs.close()


async def test_a_write_counts_when_the_socket_has_everything() -> None:
    """While bytes stand in the transport's buffer the request hasn't left."""
    async with transport_to_a_peer_that_does_not_read() as (transport, peer):
        transport.write(LARGE)
        waiting = asyncio.create_task(flushed(transport))
        await asyncio.sleep(0.02)
        early = waiting.done()
        received = 0
        while received < len(LARGE):
            received += len(await asyncio.get_running_loop().sock_recv(peer, 2**20))
        await waiting

    assert not early


async def test_a_write_that_is_cut_short_is_aborted() -> None:
    """After a cancelled wait nothing of the rest leaves."""
    async with transport_to_a_peer_that_does_not_read() as (transport, _):
        transport.write(LARGE)
        waiting = asyncio.create_task(flushed(transport))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert transport.is_closing()


class Silent:
    """Keeps how often a write was told."""

    count = 0
    echoes = 0

    @property
    def was_written(self) -> bool:
        """Whether a write was told."""
        return self.count > 0

    async def turn(self) -> None:
        """It is always its turn."""

    def written(self, _at: float, peer: str | None = None) -> None:  # noqa: ARG002 - the protocol's own name
        """Count."""
        self.count += 1

    def answered(self, _at: float) -> None:
        """Nothing to keep."""

    def echoed(self, _finds: int) -> None:
        """Nothing to keep."""


async def test_a_second_write_of_the_same_send_is_refused() -> None:
    """One send is written once, whatever the client would do."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read()

    stamps = Silent()
    current_stamps.set(stamps)
    async with answering(answer) as url, httpx2.AsyncClient(transport=stamping_transport(ssl.create_default_context())) as client:
        first = await client.get(url)
        with pytest.raises((SecondWrite, httpx2.HTTPError, aiohttp.ClientError)) as raised:
            await client.get(url)

    assert first.status_code == 204
    assert "once" in str(raised.value)
    assert stamps.count == 1
