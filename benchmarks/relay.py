"""A relay that makes connections slow to set up: `python -m benchmarks.relay PORT UPSTREAM_PORT SECONDS CERTIFICATE KEY`.

It speaks TLS to its clients and plain TCP to the upstream. The kernel accepts a client's TCP connection by itself, so what is held back is
the TLS handshake: a client that said hello gets no answer, and can't write its request, until all of the set-up has taken the seconds, the
shortest handshake so far included. The simulator closes after each answer, and the relay passes that on, so each request pays the set-up.
It writes one line for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.authority import make_authority
from benchmarks.client import Address
from benchmarks.processes import Child, free_address, spawned

__all__ = ["Relay", "relayed"]

LOOPBACK = "127.0.0.1"
PIECE = 65_536
START_SECONDS = 10.0
SET_UP = "a connection was set up"


@dataclass(frozen=True, slots=True)
class Relay:
    """The running relay; `authority` is the file of the certificate that its clients must trust."""

    child: Child
    authority: Path

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.child.address.url.replace("http:", "https:")

    def connections(self) -> int:
        """How many connections it has set up."""
        return self.child.log.read_text(encoding="utf-8").count(SET_UP)

    async def ready(self) -> None:
        """Wait until it listens.

        Raises:
            RuntimeError: it doesn't within 10 s.
        """
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                await self.set_up_seconds()
                return
            await asyncio.sleep(0.05)
        message = "the relay doesn't listen"
        raise RuntimeError(message)

    async def set_up_seconds(self) -> float:
        """How long a client takes to connect, until it could write.

        Raises:
            OSError: nobody listens there.
        """
        began = time.perf_counter()
        context = ssl.create_default_context(cafile=str(self.authority))
        _, writer = await asyncio.open_connection(self.child.address.host, self.child.address.port, ssl=context)
        took = time.perf_counter() - began
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return took


@contextmanager
def relayed(folder: Path, upstream: Address, seconds: float) -> Iterator[Relay]:
    """A relay before the upstream while the context lasts, that takes so many seconds to set a connection up."""
    authority, certificate, key = make_authority(folder)
    address = free_address()
    arguments = [str(address.port), str(upstream.port), str(seconds), str(certificate), str(key)]
    with spawned(["-m", "benchmarks.relay", *arguments], address, folder / "relay.log") as child:
        yield Relay(child, authority)


class Server:
    """The relay itself: to a port of the loopback address, with a TLS context, each connection's set-up taking so many seconds."""

    def __init__(self, upstream_port: int, context: ssl.SSLContext, seconds: float) -> None:
        self._upstream_port = upstream_port
        self._context = context
        self._seconds = seconds
        self._handshake = seconds
        self._measured = False

    async def serve(self, listening: socket.socket) -> None:
        """Take connections for ever."""
        loop, tasks = asyncio.get_running_loop(), set()
        while True:
            client, _ = await loop.sock_accept(listening)
            task = loop.create_task(self._relay(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _relay(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds - (self._handshake if self._measured else 0)
        from_upstream, to_upstream = await asyncio.open_connection(LOOPBACK, self._upstream_port)
        await asyncio.sleep(until - loop.time())
        try:
            reader, writer = await self._set_up(client)
            pumps = [loop.create_task(_pump(reader, to_upstream)), loop.create_task(_pump(from_upstream, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            writer.close()
        except OSError:
            client.close()  # the client went away while its connection was set up
        finally:
            to_upstream.close()

    async def _set_up(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        began = loop.time()
        transport, protocol = await loop.connect_accepted_socket(lambda: asyncio.StreamReaderProtocol(reader), client, ssl=self._context)
        self._handshake, self._measured = min(self._handshake, loop.time() - began), True
        print(SET_UP, flush=True)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()


async def _main(port: int, upstream_port: int, seconds: float, certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with socket.create_server((LOOPBACK, port), backlog=100) as listening:
        listening.setblocking(False)  # noqa: FBT003 - its signature
        serving = asyncio.ensure_future(Server(upstream_port, context, seconds).serve(listening))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5]))
