"""The link to Valkey: one connection, many scripts under way at once, each answered in order.

A connection belongs to one run of one server. It is never opened again by itself: a server that was restarted, or another that took its
place, may not know what was sent, and is told so by the run that each script names.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
import structlog
from valkey.asyncio.connection import AbstractConnection
from valkey.exceptions import ResponseError, ValkeyError

from app.background import kept_running

__all__ = ["ClockStepped", "Link", "LinkDown"]

BEAT_SECONDS = 0.25
ANSWER_SECONDS = 2.0
STEP_SECONDS = 0.1
SILENT_BEATS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
MICROSECONDS = 1_000_000
SCRIPTS = ("enqueue", "claim", "withdraw", "penalise")
JITTER = random.Random()  # noqa: S311 - spreads load, guards nothing

log = structlog.get_logger(__name__)


class LinkDown(Exception):
    """Valkey isn't reached, or was lost before it answered: whether the script ran isn't known."""


class ClockStepped(LinkDown):
    """The server's clock jumped: what it said of times can't be believed."""


@cache
def _source(name: str) -> str:
    folder = files("app.dispatch.shared") / "scripts"
    return (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()


@dataclass(slots=True)
class _Order:
    """A command under way, and who waits for what it gives; `at` is when it was sent, monotonic, in seconds."""

    command: tuple[Any, ...]
    done: asyncio.Future[Any]
    at: float = 0.0


@dataclass(slots=True, eq=False)
class _Session:
    """One connection, from its beginning to its first error."""

    connection: AbstractConnection
    run: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    orders: deque[_Order] = field(default_factory=deque)
    unsent: list[_Order] = field(default_factory=list)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def order(self, *command: Any) -> asyncio.Future[Any]:  # noqa: ANN401 - what the protocol takes
        """Send a command with the next write; gives what will hold its answer."""
        order = _Order(command, asyncio.get_running_loop().create_future())
        self.unsent.append(order)
        self.due.set()
        return order.done

    async def write(self) -> None:
        """Send what is ordered, all that waits at once."""
        while True:
            await self.due.wait()
            self.due.clear()
            unsent, self.unsent = self.unsent, []
            now = time.monotonic()
            for order in unsent:
                order.at = now
            self.orders += unsent
            await self.connection.send_packed_command(
                self.connection.pack_commands([order.command for order in unsent]), check_health=False
            )
            self.answered.set()

    async def read(self) -> None:
        """Hand out the answers, in the order of the commands."""
        while True:
            while not self.orders:
                self.answered.clear()
                await self.answered.wait()
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + ANSWER_SECONDS):
                answer = await self._next()
            order = self.orders.popleft()
            if order.done.done():
                continue
            if isinstance(answer, ResponseError):
                order.done.set_exception(answer)
            else:
                order.done.set_result((answer, order.at))

    async def _next(self) -> Any:  # noqa: ANN401 - what the protocol gives
        try:
            return await self.connection.read_response(disconnect_on_error=False)
        except ResponseError as error:
            return error

    def fail(self) -> None:
        """Whoever waits for an answer hears that none comes."""
        for order in (*self.orders, *self.unsent):
            if not order.done.done():
                order.done.set_exception(LinkDown("the connection to Valkey was lost"))
                order.done.exception()
        self.orders.clear()
        self.unsent.clear()


class Link:
    """Runs scripts in Valkey.

    Args:
        connect: makes a connection, unopened.

    `steps` counts how often the server's clock was found to have jumped; `on_change` is called when contact is made or lost, or the clock
    jumped. `trip` is how long an answer takes at the moment, in seconds.
    """

    def __init__(self, connect: Callable[[], AbstractConnection]) -> None:
        self._connect = connect
        self._session: _Session | None = None
        self._silent_beats = SILENT_BEATS
        self._offset: tuple[float, float] | None = None
        self.steps = 0
        self.trip = 0.0
        self.on_change: Callable[[], None] = lambda: None

    @property
    def connected(self) -> bool:
        """Whether scripts can be run now, as far as is known."""
        return self._session is not None

    @property
    def reachable(self) -> bool:
        """Whether Valkey was heard of within the last 2 s."""
        return self._silent_beats < SILENT_BEATS

    async def run(self, script: str, keys: Sequence[str], asked: Mapping[str, Any]) -> dict[str, Any]:
        """Run a script; gives its reply.

        Raises:
            LinkDown: there is no contact, or it was lost; whether the script ran isn't known.
        """
        session = self._session
        if session is None:
            message = "there is no connection to Valkey"
            raise LinkDown(message)
        argument = orjson.dumps({**asked, "run": session.run})
        try:
            answer, sent = await session.order("EVALSHA", session.scripts[script], len(keys), *keys, argument)
        except ResponseError as error:
            # Out of memory, read-only, without its scripts: another connection may find it in order again.
            log.error("Valkey refuses a script", script=script, error=str(error))  # noqa: TRY400 - the server's word is enough
            self._end(session)
            raise LinkDown(str(error)) from error
        reply: dict[str, Any] = orjson.loads(answer)
        self._require_steady(float(reply["now"]) / MICROSECONDS, sent)
        return reply

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Keep a connection while the context lasts."""
        return kept_running(self._keep())

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._serve()
            except (ValkeyError, OSError, TimeoutError, LinkDown) as error:
                log.warning("no contact with Valkey", error=str(error) or type(error).__name__)
            except Exception:
                # The task's outermost edge: without it no call would ever go out again.
                log.exception("the link to Valkey failed by a defect")
            pause = FIRST_PAUSE if time.monotonic() - began > ANSWER_SECONDS else min(2 * pause, LONGEST_PAUSE)
            self._beat_missed()
            await asyncio.sleep(JITTER.uniform(pause / 2, pause))

    async def _serve(self) -> None:
        """Serve by one connection, until its first error."""
        connection = self._connect()
        session = _Session(connection)
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
            tasks = [asyncio.create_task(work) for work in (session.write(), session.read(), self._watch(session))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._end(session)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(ValkeyError, OSError):
                await connection.disconnect(nowait=True)

    async def _watch(self, session: _Session) -> None:
        """Introduce the session, and see that the server answers and its clock goes on steadily."""
        info, _ = await session.order("INFO", "server")
        session.run = _run_of(info)
        for name in SCRIPTS:
            session.scripts[name] = (await session.order("SCRIPT", "LOAD", _source(name)))[0].decode()
        await self._see_time(session)
        self._session = session
        log.info("in contact with Valkey", run=session.run)
        self.on_change()
        while self._session is session:
            await asyncio.sleep(BEAT_SECONDS)
            self._silent_beats += 1
            if self._silent_beats == SILENT_BEATS:
                self.on_change()
            with suppress(ClockStepped):
                await self._see_time(session)

    async def _see_time(self, session: _Session) -> None:
        (seconds, microseconds), sent = await session.order("TIME")
        self._require_steady(int(seconds) + int(microseconds) / MICROSECONDS, sent)

    def _require_steady(self, server: float, sent: float) -> None:
        """See whether the server's clock goes as this one does.

        Raises:
            ClockStepped
        """
        received = time.monotonic()
        was_silent, self._silent_beats, self.trip = not self.reachable, 0, received - sent
        earliest, latest = server - received, server - sent
        before, self._offset = self._offset, (earliest, latest)
        if was_silent:
            self.on_change()
        if before and (earliest > before[1] + STEP_SECONDS or latest < before[0] - STEP_SECONDS):
            self.steps += 1
            log.error("Valkey's clock jumped; every lane begins cold", seconds=round(earliest - before[0], 3))
            self.on_change()
            message = "Valkey's clock jumped"
            raise ClockStepped(message)

    def _beat_missed(self) -> None:
        silent = self.reachable
        self._silent_beats += 1
        if silent and not self.reachable:
            self.on_change()

    def _end(self, session: _Session) -> None:
        if self._session is session:
            self._session = None
            self.on_change()
        session.fail()


def _run_of(info: Any) -> str:  # noqa: ANN401 - what the protocol gives
    """Which run of which server this is.

    Raises:
        LinkDown: it doesn't say.
    """
    for line in bytes(info).decode().splitlines():
        name, _, value = line.partition(":")
        if name == "run_id":
            return value
    message = "the server doesn't tell its run_id"
    raise LinkDown(message)
