"""Bounds on a request's head, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.api.protocol import BoundedProtocol, JoinedWrites
from app.cli.certificate import Certificate
from app.cli.serving import free_port, running
from tests.servers.authority import Authority


class Hasty(BoundedProtocol):
    """As the gateway's, but with little patience."""

    head_seconds = 0.3


@asynccontextmanager
async def connected(protocol: type[BoundedProtocol] = BoundedProtocol) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of this protocol."""
    config = uvicorn.Config(PlainTextResponse("well"), http=protocol, ws="none", lifespan="off", log_config=None)
    async with running(config, free_port()) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the next answer."""
    async with asyncio.timeout(10):
        return int((await reader.readline()).split()[1])


@pytest.mark.parametrize("filler", [b"X-Long: " + b"a" * 200_000, b"".join(b"X-%d: y\r\n" % number for number in range(20_000))])
async def test_a_head_without_end_is_cut(filler: bytes) -> None:
    """More than 80 KiB of a head that isn't whole is refused, whether it is one header or many."""
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + filler)

        assert await status_of(reader) == 431


async def test_a_slow_head_is_cut() -> None:
    """A head that isn't whole in time is refused, however steadily it drips."""
    async with connected(Hasty) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(5):
            await asyncio.sleep(0.05)
            writer.write(b"X-Drip: y\r\n")

        assert await status_of(reader) == 408


async def test_a_connection_that_says_nothing_is_closed() -> None:
    """Nobody holds a connection without asking anything."""
    async with connected(Hasty) as (reader, _):
        assert await status_of(reader) == 408


async def test_a_slow_second_head_is_cut() -> None:
    """The bound holds for every request of a connection."""
    async with connected(Hasty) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await status_of(reader)
        await reader.readuntil(b"well")
        await asyncio.sleep(0.5)
        writer.write(b"GET / HTTP/1.1\r\n")

        assert (first, await status_of(reader)) == (200, 408)


async def test_a_slow_head_that_begins_with_the_end_of_another_request_is_cut() -> None:
    """Whatever came before it in the same read."""
    async with connected(Hasty) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT")
        first = await status_of(reader)
        await reader.readuntil(b"well")

        assert (first, await status_of(reader)) == (200, 408)


async def test_a_body_that_ends_in_one_read_is_no_head() -> None:
    """A read that holds a body's end doesn't count for the next head, however much it brings."""
    async with connected() as (reader, writer):
        body = b"b" * 200_000
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(body + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await status_of(reader)
        await reader.readuntil(b"well")
        second = await status_of(reader)

    assert (first, second) == (200, 200)


async def test_a_large_body_is_no_large_head() -> None:
    """Bytes of a body, and pipelined requests, don't count."""
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"b" * 300_000)
        first = await status_of(reader)
        await reader.readuntil(b"well")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        second = await status_of(reader)

        assert (first, second) == (200, 200)


class Recorded(asyncio.Transport):
    """A transport that keeps what was written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 1)})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written.append(bytes(data))

    def close(self) -> None:
        """Take note."""
        self.closed = True

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


async def test_an_answers_head_and_body_go_out_together() -> None:
    """What is written in one turn of the loop is one write; the next turn's is another."""
    transport = Recorded()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"head, ")
    joined.write(b"body")
    before = list(transport.written)
    await asyncio.sleep(0)
    joined.write(b"next")
    await asyncio.sleep(0)

    assert before == []
    assert transport.written == [b"head, body", b"next"]
    assert joined.get_extra_info("peername") == ("10.0.0.1", 1)


async def test_what_is_held_goes_out_before_a_close_and_is_bounded() -> None:
    """Closing loses nothing, and a long answer doesn't gather in memory."""
    transport = Recorded()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"x" * 70_000)
    at_once = len(transport.written)
    joined.write(b"end")
    joined.close()

    assert at_once == 1
    assert transport.written[-1] == b"end"
    assert transport.closed


# --- peers that don't read


LARGE = 8 * 1024 * 1024


@dataclass
class Meeting:
    """A server that soon tires of a peer that takes nothing, and such a peer, which has asked for 8 MiB.

    `blocked`: the server can't write all of it at once. `lost`: its side of the connection is gone.
    """

    whole: bool
    blocked: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer: wholly, with the connection's end, or with more to come."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        asyncio.get_running_loop().call_soon(self.blocked.set)
        await send({"type": "http.response.body", "body": b"x" * LARGE, "more_body": not self.whole})

    @property
    def protocol(self) -> type[BoundedProtocol]:
        """The server's side."""
        lost = self.lost

        class Impatient(BoundedProtocol):
            stuck_seconds = 0.3

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                lost.set()

        return Impatient

    def config(self, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
        """The server, with a certificate or without."""
        factory = None if tls is None else lambda *_: tls
        return uvicorn.Config(self, http=self.protocol, ws="none", lifespan="off", log_config=None, ssl_context_factory=factory)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[socket.socket]:
        """The peer, which has read nothing yet; at the end of the context the server stops."""
        config = self.config()
        loop = asyncio.get_running_loop()
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
            peer.setblocking(False)  # noqa: FBT003 - its own order
            listening = free_port()
            async with asyncio.timeout(20), running(config, listening):
                await loop.sock_connect(peer, listening.getsockname())
                await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await self.blocked.wait()
                yield peer


async def test_a_peer_that_reads_nothing_doesnt_hold_the_end_of_its_connection() -> None:
    """What was to be the answer's rest is given up."""
    meeting = Meeting(whole=True)
    async with meeting.held():
        await meeting.lost.wait()

    assert meeting.lost.is_set()


async def test_a_peer_that_reads_nothing_doesnt_hold_the_servers_end() -> None:
    """An answer under way whose peer takes nothing isn't waited for."""
    meeting = Meeting(whole=False)
    async with meeting.held():
        before = meeting.lost.is_set()

    assert (before, meeting.lost.is_set()) == (False, True)


async def test_a_peer_that_reads_nothing_holds_nothing_over_tls_either(tmp_path: Path) -> None:
    """Between the answer and its peer stands another buffer then, which mustn't hide that nothing is taken."""
    authority, meeting, listening = Authority(tmp_path), Meeting(whole=True), free_port()
    tls = Certificate(*authority.make(tmp_path / "pair", "gateway")).context

    def ask() -> ssl.SSLSocket:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        peer.connect(listening.getsockname())
        secured = authority.context.wrap_socket(peer, server_hostname="localhost")
        secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return secured

    async with asyncio.timeout(20), running(meeting.config(tls), listening):
        with await asyncio.to_thread(ask):
            await meeting.lost.wait()

    assert meeting.lost.is_set()


async def test_a_peer_that_reads_slowly_gets_all() -> None:
    """However long it takes, as long as it goes on."""
    meeting = Meeting(whole=True)
    received = bytearray()
    async with meeting.held() as peer:
        while piece := await asyncio.get_running_loop().sock_recv(peer, 256 * 1024):
            received += piece
            await asyncio.sleep(0.005)

    assert received.count(b"x") >= LARGE
