"""One connection to Valkey, from its beginning to its first error: many commands under way at once, each answered in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from valkey.asyncio.connection import AbstractConnection
from valkey.exceptions import ResponseError

__all__ = ["ANSWER_SECONDS", "LinkDown", "Session"]

ANSWER_SECONDS = 2.0


class LinkDown(Exception):
    """Valkey isn't reached, or was lost before it answered: whether the script ran isn't known."""


@dataclass(slots=True)
class _Order:
    """A command under way, and who waits for what it gives; `at` is when it was sent, monotonic, in seconds."""

    command: tuple[Any, ...]
    done: asyncio.Future[Any]
    at: float = 0.0


@dataclass(slots=True, eq=False)
class Session:
    """One connection, from its beginning to its first error. `run` names the server's run, `scripts` what it knows them by."""

    connection: AbstractConnection
    run: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _orders: deque[_Order] = field(default_factory=deque)
    _unsent: list[_Order] = field(default_factory=list)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: asyncio.Event = field(default_factory=asyncio.Event)

    def order(self, *command: Any) -> asyncio.Future[Any]:  # noqa: ANN401 - what the protocol takes
        """Send a command with the next write; gives what will hold its answer, and when it was sent."""
        order = _Order(command, asyncio.get_running_loop().create_future())
        if self.ended.is_set():
            _fail(order)
            return order.done
        self._unsent.append(order)
        self._due.set()
        return order.done

    async def write(self) -> None:
        """Send what is ordered, all that waits at once.

        Raises:
            LinkDown: there is no connection any more.
        """
        # Python 3.11's wait_for, in which valkey-py writes, may swallow a cancellation.
        while not self.ended.is_set():
            await self._due.wait()
            self._due.clear()
            unsent, self._unsent = self._unsent, []
            now = time.monotonic()
            for order in unsent:
                order.at = now
            self._orders += unsent
            # Before they are sent: a server that takes nothing is one that doesn't answer.
            self._sent.set()
            if not self.connection.is_connected:
                # It would open itself again, to whom nobody knows.
                message = "the connection to Valkey was lost"
                raise LinkDown(message)
            await self.connection.send_packed_command(
                self.connection.pack_commands([order.command for order in unsent]), check_health=False
            )

    async def read(self) -> None:
        """Hand out the answers, in the order of the commands.

        Raises:
            TimeoutError: one takes longer than 2 s.
        """
        while True:
            while not self._orders:
                self._sent.clear()
                await self._sent.wait()
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._next()
            order = self._orders.popleft()
            if order.done.done():
                continue
            if isinstance(answer, ResponseError):
                order.done.set_exception(answer)
            else:
                order.done.set_result((answer, order.at))

    async def last(self) -> None:
        """Wait until it is ended by who uses it."""
        await self.ended.wait()

    async def _next(self) -> Any:  # noqa: ANN401 - what the protocol gives
        try:
            return await self.connection.read_response(disconnect_on_error=False)
        except ResponseError as error:
            return error

    def end(self) -> None:
        """Use it no more: whoever waits for an answer hears that none comes."""
        self.ended.set()
        self._due.set()
        for order in (*self._orders, *self._unsent):
            _fail(order)
        self._unsent.clear()


def _fail(order: _Order) -> None:
    if not order.done.done():
        order.done.set_exception(LinkDown("the connection to Valkey was lost"))
        # Nobody need wait for it.
        order.done.exception()
