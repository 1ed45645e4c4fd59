"""Serving an application until a signal: the one place where uvicorn is set up for the gateway."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from app.api.protocol import BoundedProtocol
from app.errors import StartRefused

__all__ = ["ServingLoop", "StoppingServer", "free_port", "gateway_config", "in_background", "locked", "running"]

KEEP_ALIVE_SECONDS = 75
STARTED_POLL_SECONDS = 0.01
HANDSHAKE_SECONDS = 10.0
AFTER_GRACE_SECONDS = 65  # a send under way may take 60 s

log = structlog.get_logger(__name__)


class ServingLoop(uvloop.Loop):
    """The event loop, which gives up on TLS handshakes and farewells that aren't done in 10 s, as heads are given up.

    uvicorn has no setting for that; without it whoever connects and says nothing keeps a connection for a minute.
    """

    async def create_server(self, *args: Any, ssl: ssl.SSLContext | None = None, **kwargs: Any) -> asyncio.AbstractServer:  # type: ignore[override]  # noqa: ANN401 - passed on as they come
        """Listen, as any loop does."""
        if ssl is not None:
            kwargs |= {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": HANDSHAKE_SECONDS}
        return await super().create_server(*args, ssl=ssl, **kwargs)


class StoppingServer(uvicorn.Server):
    """A server that tells of the first signal, and returns afterwards instead of dying of it, so that what is open can be closed.

    Args:
        config: uvicorn's configuration.
        on_stop: called once, on the loop, when the first signal comes.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def take_signals(self) -> None:
        """Have SIGINT and SIGTERM end the server in order, also if it doesn't run yet: then as soon as it does."""
        _at_signals(self.stop)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM while the server runs, and from then on."""
        self.take_signals()
        try:
            yield
        finally:
            # What is open is closed after this, in order: another signal mustn't cut that short.
            _at_signals(_note_impatience)

    def stop(self) -> None:
        """Stop in order; at the second time, without waiting for connections."""
        if self.should_exit:
            _note_impatience()
            self.force_exit = True
            return
        self.should_exit = True
        self._on_stop()


def _at_signals(do: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, do)


def _note_impatience() -> None:
    log.warning("stopping already: sends under way are awaited, then everything is put on record")


def gateway_config(app: ASGIApp, *, host: str, port: int, grace: float, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """Uvicorn as the gateway wants it: no log of its own, nothing believed of proxies, no lifespan (the caller opens and closes)."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(grace + AFTER_GRACE_SECONDS),
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )


class BackgroundServer(uvicorn.Server):
    """A server that leaves signals to others."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


@asynccontextmanager
async def running(config: uvicorn.Config, listening: socket.socket) -> AsyncIterator[str]:
    """Serve in the background on a socket that is bound already; gives the base URL, once it answers, and stops at the end."""
    host, port = listening.getsockname()[:2]
    async with in_background(config, listening):
        yield f"http://{host}:{port}"


@asynccontextmanager
async def in_background(config: uvicorn.Config, listening: socket.socket) -> AsyncIterator[None]:
    """Serve on a socket of any family that is bound already, while the context lasts; it answers when the context begins."""
    server = BackgroundServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(STARTED_POLL_SECONDS)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def free_port() -> socket.socket:
    """A socket bound to a free port of the loopback address."""
    return socket.create_server(("127.0.0.1", 0))


@contextmanager
def locked(state_dir: Path, database: Path | None) -> Iterator[None]:
    """Hold the state folder, and the database's file if it is one, for this process: turns are counted in memory.

    Raises:
        StartRefused: another process holds one of them.
    """
    with ExitStack() as stack:
        stack.enter_context(_lock(state_dir / "serve.lock", state_dir))
        if database:
            stack.enter_context(_lock(database.with_name(f"{database.name}.lock"), database))
        yield


@contextmanager
def _lock(path: Path, what: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"GATEWAY_STATE_DIR: {what} can't be used: {error}"
        raise StartRefused(message) from error
    with os.fdopen(descriptor, "r+") as file:
        _take(file, what)
        yield


def _take(file: IO[str], what: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip() or "unknown"
        message = f"another flxpoint-gateway (process {holder}) serves from {what}: one process a state folder and database"
        raise StartRefused(message) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
