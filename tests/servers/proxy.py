"""A TCP proxy between a replica and a server that makes of their network what a test asks for, and counts what passes.

It runs on a thread of its own, so that a test which waits doesn't stop it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.cli.processes import PATIENCE_SECONDS, free_port

__all__ = ["Counted", "Proxy", "proxied"]

BLOCK = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""A linger time of zero: the kernel then sends RST where it would send FIN (socket(7))."""


@dataclass
class Counted:
    """What passed since the proxy began: bytes each way, and round trips.

    A round trip is what a client sent, however much, before it was answered; so calls that share a connection and overlap count as fewer.
    """

    there: int = 0
    back: int = 0
    round_trips: int = 0


class Proxy:
    """What listens at `port` and passes everything on to a server's port, both of the loopback.

    Args:
        target: the server's port.
        tls: with what TLS is ended here; None: it is passed on as it comes.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.counted = Counted()
        self._delays = 0.0, 0.0
        self._target, self._tls = target, tls
        self._loop = asyncio.new_event_loop()
        self.passable = asyncio.Event()
        self.passable.set()
        self._connections: set[asyncio.Task[object]] = set()
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def delay(self, *, there: float = 0.0, back: float = 0.0) -> None:
        """Delay what passes from now on by so many seconds each way; nothing overtakes."""
        self._delays = there, back

    @contextmanager
    def delayed(self, *, there: float = 0.0, back: float = 0.0) -> Iterator[None]:
        """Delay what passes meanwhile."""
        self.delay(there=there, back=back)
        try:
            yield
        finally:
            self.delay()

    @contextmanager
    def partitioned(self) -> Iterator[None]:
        """Let nothing through meanwhile, without a word to anybody; what was sent arrives at the end, as TCP sends it again."""
        self._loop.call_soon_threadsafe(self.passable.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self.passable.set)

    def strand(self) -> None:
        """Let nothing more through of the connections that are there, without a word to anybody; new ones pass."""
        self._do(self._strand())

    def cut(self) -> None:
        """Reset every connection; what was on its way is lost."""
        self._do(self._cut())

    def aim(self, target: int) -> None:
        """Pass new connections on to another port from now on."""
        self._target = target

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse new connections meanwhile, as if nobody listened; those that are there stay."""
        self._do(self._refuse())
        try:
            yield
        finally:
            self._do(self._accept())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Pass everything on while the context lasts."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            self._do(self._accept())
            yield
        finally:
            self._do(self._refuse())
            self.cut()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(PATIENCE_SECONDS)
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _accept(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _strand(self) -> None:
        self.passable.clear()
        self.passable = asyncio.Event()
        self.passable.set()

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._loop.create_task(self._carry(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
            return
        counter = _Counter(self.counted)
        there = _Way(self.passable, reader, their_writer, lambda: self._delays[0], counter.sent)
        back = _Way(self.passable, their_reader, writer, lambda: self._delays[1], counter.answered)
        ways = [asyncio.create_task(way.carry()) for way in (there, back)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            their_writer.close()
            writer.close()
        except asyncio.CancelledError:
            _reset(their_writer)
            _reset(writer)
            raise
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


@contextmanager
def proxied(target: int, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy before a server's port of the loopback; with TLS ended at the proxy, if asked."""
    proxy = Proxy(target, tls)
    with proxy.running():
        yield proxy


class _Counter:
    """Counts what passes over one connection."""

    def __init__(self, counted: Counted) -> None:
        self._counted, self._open = counted, False

    def sent(self, size: int) -> None:
        """So many bytes went to the server."""
        self._counted.there += size
        self._counted.round_trips += not self._open
        self._open = True

    def answered(self, size: int) -> None:
        """So many bytes came back."""
        self._counted.back += size
        self._open = False


@dataclass(frozen=True)
class _Way:
    """One direction of a connection: `delay` says in seconds how late what is read now arrives, and `count` is told each block's size."""

    passable: asyncio.Event
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    delay: Callable[[], float]
    count: Callable[[int], None]

    async def carry(self) -> None:
        """Carry until its sender ends it."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        reading = asyncio.create_task(self._read(under_way))
        try:
            while block := await self._arrived(under_way):
                self.count(len(block))
                self.writer.write(block)
                await self.writer.drain()
        except ConnectionError:
            return
        finally:
            reading.cancel()

    async def _read(self, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        block = b"-"
        while block:
            try:
                block = await self.reader.read(BLOCK)
            except (ConnectionError, ssl.SSLError):
                block = b""
            under_way.put_nowait((asyncio.get_running_loop().time() + self.delay(), block))

    async def _arrived(self, under_way: asyncio.Queue[tuple[float, bytes]]) -> bytes:
        due, block = await under_way.get()
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        await self.passable.wait()
        return block


def _reset(writer: asyncio.StreamWriter) -> None:
    if writer.get_extra_info("ssl_object") is None and not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
