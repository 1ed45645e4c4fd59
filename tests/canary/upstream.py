"""A simulated Flxpoint in a thread of its own, and a stranger's host to which no token may go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.cli.serving import free_port, running
from app.simulator.app import create_simulator
from app.simulator.protocol import server_config
from app.simulator.tokens import SimulatedToken
from tests.upstream.peers import answering

__all__ = ["Hosts", "hosts"]

RATE = 1_000


@dataclass
class Hosts:
    """Flxpoint at `url`, and the stranger at `stranger` with all that was ever sent there."""

    url: str = ""
    stranger: str = ""
    received: list[bytes] = field(default_factory=list)

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The stranger: keeps what comes and answers as Flxpoint would."""
        self.received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[1]")


@contextmanager
def hosts(*tokens: SimulatedToken) -> Iterator[Hosts]:
    """Both, while the context lasts."""
    made, ready, ended = Hosts(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        simulator = create_simulator(tokens, rate=RATE)
        async with answering(made.receive) as stranger, running(server_config(simulator, "127.0.0.1", 0), free_port()) as url:
            made.url, made.stranger = url, stranger
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=_run, args=(loop, serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10)
        yield made
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
