"""One connection to Valkey, from its beginning to its first error: many commands under way at once, each answered in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
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

    packed: Sequence[bytes]
    done: asyncio.Future[Any]
    at: float = 0.0


@dataclass(slots=True, eq=False)
class Session:
    """One connection, from its beginning to its first error. `run` names the server's run, `scripts` what it knows them by."""

    connection: AbstractConnection
    run: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _beginnings: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _orders: deque[_Order] = field(default_factory=deque)
    _unsent: list[_Order] = field(default_factory=list)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: asyncio.Event = field(default_factory=asyncio.Event)

    def order(self, *command: Any) -> asyncio.Future[Any]:  # noqa: ANN401 - what the protocol takes
        """Send a command with the next write; gives what will hold its answer, and when it was sent."""
        return self._order(self.connection.pack_command(*command))

    def run_script(self, name: str, keys: Sequence[str], argument: bytes) -> asyncio.Future[Any]:
        """The same of a script. What is the same each time, most of the command, is put into bytes once."""
        beginning = self._beginnings.get((name, keys[0]))
        if beginning is None:
            beginning = self._beginnings[name, keys[0]] = self._beginning(name, keys)
        return self._order([b"%b$%d\r\n%b\r\n" % (beginning, len(argument), argument)])

    def _beginning(self, name: str, keys: Sequence[str]) -> bytes:
        """All of the command but its last argument (RESP, arrays and bulk strings)."""
        command: tuple[str | int, ...] = ("EVALSHA", self.scripts[name], len(keys), *keys)
        _, _, arguments = b"".join(self.connection.pack_command(*command)).partition(b"\r\n")
        return b"*%d\r\n%b" % (len(command) + 1, arguments)

    def _order(self, packed: Sequence[bytes]) -> asyncio.Future[Any]:
        order = _Order(packed, asyncio.get_running_loop().create_future())
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
            together = b"".join(chain.from_iterable(order.packed for order in unsent))
            await self.connection.send_packed_command(together, check_health=False)

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
