"""A simulator on a real socket, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from app.simulator.protocol import server_config
from app.simulator.tokens import SimulatedToken
from tests import loopback

TOKEN = SimulatedToken("main", "the-token-value", "account")
LINK_ORDER = b"PATCH /orders/link?orderIds=1001 HTTP/1.1\r\nHost: upstream\r\nX-API-TOKEN: the-token-value\r\n\r\n"


class Server(uvicorn.Server):
    """A server that leaves the test process's signal handlers alone."""

    async def has_started(self) -> bool:
        """Tell whether connections are accepted."""
        return self.started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again until `condition` holds.

    Raises:
        TimeoutError: it doesn't within 10 s.

    """
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[tuple[str, int]]:
    """Serve `app` on a free port of the loopback and return its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    address: tuple[str, int] = listener.getsockname()
    server = Server(server_config(app, *address))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(server.has_started)
    try:
        yield address
    finally:
        server.should_exit = True
        await task


class Control:
    """The own endpoints of a served simulator whose one token is named `main`."""

    def __init__(self, client: httpx2.AsyncClient, address: tuple[str, int]) -> None:
        """Speak through `client` to the simulator at `address`."""
        self._client = client
        self.address = address

    async def plan(self, **fault: object) -> None:
        """Plan one fault."""
        (await self._client.post("/_simulator/faults", json=fault)).raise_for_status()

    async def reset(self) -> None:
        """Put the simulator back to its beginning."""
        (await self._client.post("/_simulator/reset")).raise_for_status()

    async def linked(self) -> bool:
        """Tell whether the first order has been linked."""
        order = (await self._client.get("/_simulator/orders", params={"limit": 1})).json()[0]
        return all(item["linked"] for item in order["items"])

    async def statuses(self) -> dict[str, int]:
        """Return how many answers of each status were given."""
        statuses: dict[str, int] = (await self._main())["statuses"]
        return statuses

    async def arrivals(self) -> int:
        """Return how many requests arrived."""
        return int((await self._main())["arrivals"])

    async def unanswered(self) -> int:
        """Return how many requests were or will be left without an answer."""
        return int((await self._main())["unanswered"])

    async def _main(self) -> dict[str, Any]:
        main: dict[str, Any] = (await self._client.get("/_simulator/statistics")).json()["tokens"]["main"]
        return main


@asynccontextmanager
async def controlled(app: FastAPI) -> AsyncIterator[Control]:
    """Serve `app` and return its own endpoints."""
    async with (
        served(app) as address,
        loopback.async_client(base_url="http://{}:{}".format(*address)) as client,
    ):
        yield Control(client, address)


class Line:
    """A client's connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak over `reader` and `writer`."""
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes = LINK_ORDER) -> None:
        """Send a request."""
        self._writer.write(request)
        await self._writer.drain()

    async def head(self) -> bytes:
        """Read an answer's status line and headers, in lower case."""
        async with asyncio.timeout(10):
            return (await self._reader.readuntil(b"\r\n\r\n")).lower()

    async def read(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        async with asyncio.timeout(10):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Read until the server ends the connection.

        Raises:
            ConnectionResetError: it ended it with a reset.

        """
        async with asyncio.timeout(10):
            return await self._reader.read()


@asynccontextmanager
async def line_to(address: tuple[str, int]) -> AsyncIterator[Line]:
    """Connect to `address`."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()
