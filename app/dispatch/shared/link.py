"""The link to Valkey: one connection at a time, over which many scripts are under way at once.

A connection belongs to one run of one server. It is never opened again by itself: a server that was restarted, or another that took its
place, may not know what was sent, and is told so by the run that each script names.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Any

import orjson
import structlog
from valkey.exceptions import ResponseError, ValkeyError

from app.background import kept_running
from app.dispatch.shared.address import Connections
from app.dispatch.shared.clock import ServerClock
from app.dispatch.shared.session import ANSWER_SECONDS, LinkDown, Session

__all__ = ["SCRIPTS", "ClockStepped", "Link", "LinkDown", "script_source"]

BEAT_SECONDS = 0.25
SILENT_BEATS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
MICROSECONDS = 1_000_000
COMMON = ("state", "guard", "places", "breakers", "reports", "turn")
SCRIPTS = ("claim", "renew", "withdraw", "penalise")
CONTACT = "flxpoint-gateway:contact"
JITTER = random.Random()  # noqa: S311 - spreads load, guards nothing

log = structlog.get_logger(__name__)


class ClockStepped(LinkDown):
    """The server's clock jumped: what it said of times can't be believed."""


@cache
def script_source(name: str) -> str:
    """The Lua of a script, with what all have in common before it."""
    folder = files("app.dispatch.shared") / "scripts"
    return "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*COMMON, name))


class Link:
    """Runs scripts in Valkey.

    Args:
        connections: makes connections, unopened.

    `steps` counts how often the server's clock was found to have jumped, `stepped_at` is when that was last, monotonic, in seconds;
    `on_change` is called when contact is made or lost, or the clock jumped. `trip` is how long an answer takes at the moment, in seconds.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._session: Session | None = None
        self._silent_beats = SILENT_BEATS
        self._clock = ServerClock()
        self._run = ""
        self._serials = count(1)
        self.steps = 0
        self.stepped_at = -math.inf
        self.trip = 0.0
        self.on_change: Callable[[], None] = lambda: None

    @property
    def connected(self) -> bool:
        """Whether scripts can be run now, as far as is known."""
        return self._session is not None

    @property
    def reachable(self) -> bool:
        """Whether Valkey was heard of within the last 2 s, and takes writes."""
        return self._silent_beats < SILENT_BEATS

    async def run(self, script: str, keys: Sequence[str], asked: Mapping[str, Any]) -> dict[str, Any]:
        """Run a script; gives its reply. Each is numbered, so that one which comes late is known for it.

        Raises:
            LinkDown: there is no contact, or it was lost: whether the script ran isn't known. Or it came late, or with the stale terms of a
                replica that is cut off from the database, and changed nothing.
        """
        session = self._session
        if session is None:
            message = "there is no connection to Valkey"
            raise LinkDown(message)
        steps = self.steps
        argument = orjson.dumps({**asked, "run": session.run, "serial": next(self._serials)})
        try:
            answer, sent = await session.run_script(script, keys, argument)
        except ResponseError as error:
            # Out of memory, read-only, without its scripts: another connection may find it in order again.
            log.error("Valkey refuses a script", script=script, error=str(error))  # noqa: TRY400 - the server's word is enough
            self._end(session)
            raise LinkDown(str(error)) from error
        reply: dict[str, Any] = orjson.loads(answer)
        self._require_steady(float(reply["now"]) / MICROSECONDS, sent)
        if self.steps != steps:
            message = "Valkey's clock jumped, and the script didn't know it"
            raise ClockStepped(message)
        if "late" in reply:
            message = "a younger script has run before this one"
            raise LinkDown(message)
        if "stale" in reply:
            message = "another replica knows the token's rate as it is by now"
            raise LinkDown(message)
        return reply

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep a connection while the context lasts."""
        try:
            async with kept_running(self._keep()), kept_running(self._beat()):
                yield
        finally:
            await self._connections.aclose()

    async def _beat(self) -> None:
        """Count how long nothing was heard, in beats: time in which this process stood still isn't the server's."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._silent_beats += 1
            if self._silent_beats == SILENT_BEATS:
                self.on_change()

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
            self._connections.ask_another()
            pause = FIRST_PAUSE if time.monotonic() - began > ANSWER_SECONDS else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(JITTER.uniform(pause / 2, pause))

    async def _serve(self) -> None:
        """Serve by one connection, until its first error."""
        connection = self._connections()
        try:
            async with asyncio.timeout(self._connections.seconds):
                await connection.connect()  # type: ignore[no-untyped-call]
            await self._use(Session(connection))
        finally:
            with suppress(ValkeyError, OSError):
                await connection.disconnect(nowait=True)

    async def _use(self, session: Session) -> None:
        tasks = [asyncio.create_task(work) for work in (session.write(), session.read(), self._watch(session), session.last())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._end(session)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, session: Session) -> None:
        """Introduce the session, and see that the server answers and its clock goes on steadily."""
        info, _ = await session.order("INFO", "server")
        session.run = _run_of(info)
        for name in SCRIPTS:
            session.scripts[name] = (await session.order("SCRIPT", "LOAD", script_source(name)))[0].decode()
        # One that takes no writes, a replica or one that is full, can't be asked for turns.
        await session.order("HSET", CONTACT, "run", session.run)
        if session.run != self._run:
            self._run = session.run
            self._clock.forget()
        with suppress(ClockStepped):
            await self._see_time(session)
        self._session = session
        log.info("in contact with Valkey", run=session.run)
        self.on_change()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with suppress(ClockStepped):
                await self._see_time(session)

    async def _see_time(self, session: Session) -> None:
        (seconds, microseconds), sent = await session.order("TIME")
        self._require_steady(int(seconds) + int(microseconds) / MICROSECONDS, sent)

    def _require_steady(self, server: float, sent: float) -> None:
        """See whether the server's clock goes as this one does.

        Raises:
            ClockStepped
        """
        received = time.monotonic()
        was_silent, self._silent_beats, self.trip = not self.reachable, 0, received - sent
        jump = self._clock.jumped(server, sent, received)
        if was_silent or jump is not None:
            if jump is not None:
                self.steps, self.stepped_at = self.steps + 1, received
            self.on_change()
        if jump is not None:
            log.error("Valkey's clock jumped; every lane begins cold", seconds=round(jump, 3))
            message = "Valkey's clock jumped"
            raise ClockStepped(message)

    def _end(self, session: Session) -> None:
        if self._session is session:
            self._session = None
            self.on_change()
        session.end()


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
