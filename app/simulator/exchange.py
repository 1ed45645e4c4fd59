"""One request and its answer over ASGI, with every way of answering badly."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from app.simulator.answers import JSON, Answer
from app.simulator.connection import EXTENSION, Connection, NoSocketError

_BLOCK = b" " * 65536


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request being answered."""

    scope: Scope
    receive: Receive
    send: Send

    @property
    def arrived(self) -> float | None:
        """When the request's head was complete, in the simulator's clock; None over plain ASGI."""
        connection = self._connection()
        return connection.arrived if connection else None

    @property
    def from_bearer(self) -> bool:
        """Whether the request carries `Authorization: Bearer`."""
        return any(name == b"authorization" and value[:7].lower() == b"bearer " for name, value in self.scope["headers"])

    async def has_body(self) -> bool:
        """Read until the first byte of a body or the request's end; a body cut off is a body."""
        while True:
            event = await self.receive()
            if event["type"] == "http.disconnect" or event.get("body"):
                return True
            if not event.get("more_body"):
                return False

    async def gone_within(self, seconds: float | None) -> bool:
        """Wait for the client to hang up, at most `seconds` (None: for ever), and tell whether it did."""
        try:
            await asyncio.wait_for(self._gone(), seconds)
        except TimeoutError:
            return False
        return True

    async def answer(self, answer: Answer) -> None:
        """Send `answer` at once."""
        await self._head(answer, len(answer.body))
        await self._body(answer.body, more=False)

    async def drip(self, answer: Answer, piece: int, delay: float) -> None:
        """Send the head at once and then, until the client hangs up, `piece` bytes every `delay` seconds."""
        await self._head(answer, len(answer.body))
        for start in range(0, len(answer.body), piece):
            if await self.gone_within(delay):
                return
            await self._body(answer.body[start : start + piece])
        await self._body(b"", more=False)

    async def flood(self, size: int, *, declared: bool) -> None:
        """Answer 200 with `size` bytes of valid JSON, a block at a time: an empty array with much space in it."""
        await self._head(Answer(200, b"", JSON), size if declared else None)
        for block in _spacious_array(size):
            await self._body(block)
        await self._body(b"", more=False)

    async def reset(self) -> None:
        """Reset the connection.

        Raises:
            NoSocketError: over plain ASGI.

        """
        self._socket("reset the connection").reset()
        await self.gone_within(None)

    async def blurt(self, raw: bytes) -> None:
        """Write `raw` where an HTTP answer should stand, and close.

        Raises:
            NoSocketError: over plain ASGI.

        """
        self._socket("write raw bytes").blurt(raw)
        await self.gone_within(None)

    async def hang(self, seconds: float | None) -> None:
        """Hold the request unanswered until the client hangs up; after `seconds`, reset the connection.

        Raises:
            NoSocketError: `seconds` passed, over plain ASGI.

        """
        if not await self.gone_within(seconds):
            await self.reset()

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _head(self, answer: Answer, length: int | None) -> None:
        headers = [("content-type", answer.content_type), *answer.headers]
        if length is not None:
            headers.append(("content-length", str(length)))
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await self.send({"type": "http.response.start", "status": answer.status, "headers": encoded})

    async def _body(self, body: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    def _connection(self) -> Connection | None:
        connection = self.scope.get("extensions", {}).get(EXTENSION, {}).get("connection")
        return connection if isinstance(connection, Connection) else None

    def _socket(self, purpose: str) -> Connection:
        connection = self._connection()
        if connection is None:
            msg = f"this fault must {purpose}, which takes a server made by server_config"
            raise NoSocketError(msg)
        return connection


def _spacious_array(size: int) -> Iterable[bytes]:
    yield b"["
    for start in range(0, size - 2, len(_BLOCK)):
        yield _BLOCK[: size - 2 - start]
    yield b"]"
