"""Several processes behind one port: started one after the other, told of signals, started again when they die, and ended with this one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from app.errors import StartRefused
from app.settings import PREFIX, Settings

__all__ = ["Lifeline", "Supervisor", "listening_on", "require_shared_stores"]

REFUSED = 2
BACKLOG = 2_048
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
STEADY_SECONDS = 10.0
UP = b"up"

log = structlog.get_logger(__name__)


def require_shared_stores(settings: Settings, workers: int) -> None:
    """Make sure that several processes share what they must.

    Raises:
        StartRefused: it says what to set.
    """
    missing = []
    if settings.is_embedded:
        missing.append(f"{PREFIX}DATABASE_URL=postgresql+asyncpg://user@host/name, where tokens, jobs and the record are shared")
    if settings.valkey_url is None:
        missing.append(f"{PREFIX}VALKEY_URL=valkey://host, where turns are shared: else each process would use Flxpoint's whole limit")
    if missing:
        message = f"--workers: {workers} processes need {', and '.join(missing)}"
        raise StartRefused(message)


def listening_on(host: str, port: int) -> socket.socket:
    """A socket for all workers.

    Raises:
        StartRefused: it can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        message = f"{PREFIX}PORT: {host}:{port} can't be listened on: {error.strerror or error}"
        raise StartRefused(message) from error


@dataclass(frozen=True, slots=True)
class Lifeline:
    """What a worker holds of its supervisor: it tells over it that it serves, and sees by its end that the supervisor is gone."""

    connection: socket.socket

    @asynccontextmanager
    async def held(self, on_cut: Callable[[], None]) -> AsyncIterator[None]:
        """Tell that this worker serves; while the context lasts, it is told if the supervisor dies."""
        loop = asyncio.get_running_loop()
        self.connection.setblocking(False)  # noqa: FBT003 - the standard library's own
        self.connection.send(UP)
        loop.add_reader(self.connection, self._cut, on_cut)
        try:
            yield
        finally:
            loop.remove_reader(self.connection)

    def _cut(self, on_cut: Callable[[], None]) -> None:
        asyncio.get_running_loop().remove_reader(self.connection)
        log.warning("the supervisor is gone; stopping")
        on_cut()


@dataclass(slots=True)
class _Worker:
    """One of the processes."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    _serves: bool = False
    _owes_hangup: bool = False

    async def is_up(self) -> bool:
        """Wait until it serves; False where it ended before."""
        self._serves = await asyncio.get_running_loop().sock_recv(self.line, len(UP)) == UP
        if self._serves and self._owes_hangup:
            self.hang_up()
        return self._serves

    def hang_up(self) -> None:
        """Have it read its files again; later where it can't hear that yet, and would end by it."""
        if self._serves:
            self.process.send_signal(signal.SIGHUP)
        else:
            self._owes_hangup = True

    async def ended(self) -> int:
        """Wait for its end; gives its status."""
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self.line, len(UP)):
            pass
        return await asyncio.to_thread(self.process.wait)


class Supervisor:
    """Keeps workers running.

    Args:
        settings: as the workers will read them.
        workers: how many.
        listening: what they all accept connections from.
    """

    def __init__(self, settings: Settings, workers: int, listening: socket.socket) -> None:
        self._settings = settings
        self._count = workers
        self._listening = listening
        self._workers: dict[int, _Worker] = {}
        self._stopping = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Run until a signal, or until a worker can't start as asked; gives the status to exit with."""
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        keeping = []
        for number in range(1, self._count + 1):
            # One after the other: the first brings the database to the newest schema, and complains alone.
            up = asyncio.Event()
            keeping.append(asyncio.create_task(self._keep(number, up)))
            await up.wait()
            if self._stopping.is_set():
                break
        await asyncio.gather(*keeping)
        return self._status

    def _stop(self) -> None:
        self._stopping.set()
        for worker in self._workers.values():
            worker.process.terminate()

    def _hang_up(self) -> None:
        for worker in self._workers.values():
            worker.hang_up()

    async def _keep(self, number: int, up: asyncio.Event) -> None:
        """Keep one worker running: start it again when it dies, the later the more often it does.

        One that is refused before it was ever up is asked for wrongly, and ends all; later it is for lack of what may come back.
        """
        pause = FIRST_PAUSE
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                status = await self._serve(number, up)
                if (status == REFUSED and not up.is_set()) or (self._stopping.is_set() and status):
                    self._status = max(self._status, status)
                    self._stop()
                if self._stopping.is_set():
                    break
                lasted = time.monotonic() - began
                pause = FIRST_PAUSE if lasted > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE)
                if status is not None:
                    log.error("a worker ended; starting it again", worker=number, status=status, after=round(lasted, 1), within=pause)
                await self._rest(pause)
        finally:
            up.set()

    async def _serve(self, number: int, up: asyncio.Event) -> int | None:
        """Start a worker and wait for its end; gives its status, None where it couldn't be started."""
        try:
            worker = self._workers[number] = self._start(number)
        except OSError as error:
            log.error("a worker can't be started", worker=number, error=str(error))  # noqa: TRY400 - the system's word is enough
            return None
        try:
            if await worker.is_up():
                up.set()
            return await worker.ended()
        finally:
            del self._workers[number]
            worker.line.close()

    async def _rest(self, seconds: float) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping], timeout=seconds)
        stopping.cancel()

    def _start(self, number: int) -> _Worker:
        """Start a worker.

        Raises:
            OSError: the machine has no room for it.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = self._open(number, theirs)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)  # noqa: FBT003 - the standard library's own
        return _Worker(process, ours)

    def _open(self, number: int, line: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = self._listening.fileno(), line.fileno()
        arguments = ["serve", "--listening", str(descriptors[0]), "--lifeline", str(descriptors[1])]
        return subprocess.Popen(  # noqa: S603 - this program again
            [sys.executable, "-m", "app.cli", *arguments],
            env={**os.environ, **self._variables(number)},
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            # Ctrl-C is the supervisor's to hear, and to pass on.
            process_group=0,
        )

    def _variables(self, number: int) -> dict[str, str]:
        """What makes a worker's settings its own: a folder for its spool, its lock and, of the first, the socket for commands."""
        settings = self._settings
        folder = settings.state_dir if number == 1 else settings.state_dir / f"worker-{number}"
        return {
            f"{PREFIX}HOST": settings.host,
            f"{PREFIX}PORT": str(settings.port),
            f"{PREFIX}STATE_DIR": str(folder.resolve()),
            f"{PREFIX}MASTER_KEYS_FILE": "" if settings.master_keys else str(settings.keys_file.resolve()),
        }
