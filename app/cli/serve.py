"""`serve`: the gateway itself."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Annotated

import structlog
import typer

from app.cli.certificate import Certificate
from app.cli.control import control_path, controlled
from app.cli.serving import ServingLoop, StoppingServer, gateway_config, locked
from app.cli.workers import Lifeline, Supervisor, listening_on, require_shared_stores
from app.main import begin_shutdown, create_app, create_control
from app.settings import LogFormat, Settings, load_settings, unknown_variables
from app.storage.alone import one_of_several, only_server
from app.telemetry import configure_logs

__all__ = ["serve"]

COLLECTOR_THRESHOLDS = (50_000, 20, 100)

log = structlog.get_logger(__name__)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default GATEWAY_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default GATEWAY_PORT, else 8080.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one need PostgreSQL and Valkey.")] = 1,
    listening: Annotated[int | None, typer.Option(hidden=True, help="A socket that is bound already, as its number.")] = None,
    lifeline: Annotated[int | None, typer.Option(hidden=True, help="The supervisor's end of a socket, as its number.")] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. SIGHUP has it read the configuration file and its certificate again."""
    given = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    configure_logs(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    for name in unknown_variables(os.environ):
        log.warning("this variable names no setting and is ignored", variable=name)
    if workers > 1:
        require_shared_stores(settings, workers)
        sys.exit(asyncio.run(Supervisor(settings, workers, listening_on(settings.host, settings.port)).run()))
    sockets = None if listening is None else [socket.socket(fileno=listening)]
    line = None if lifeline is None else Lifeline(socket.socket(fileno=lifeline))
    database = settings.database_path if settings.is_embedded else None
    with locked(settings.state_dir, database), asyncio.Runner(loop_factory=ServingLoop) as runner:
        runner.run(_serve(settings, sockets, line))


async def _serve(settings: Settings, sockets: list[socket.socket] | None, lifeline: Lifeline | None) -> None:
    certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    declaring, renewing = asyncio.Event(), asyncio.Event()
    _at_hangup(declaring.set, renewing.set)
    app = create_app(settings, declaring)
    tls = certificate.context if certificate else None
    config = gateway_config(app, host=settings.host, port=settings.port, grace=settings.shutdown_grace, tls=tls)
    server = StoppingServer(config, lambda: begin_shutdown(app))
    server.take_signals()
    async with _let_in(settings), app.router.lifespan_context(app):
        _settle_memory()
        log.info("starting to serve", host=settings.host, port=settings.port, tls=bool(tls), upstream=str(settings.upstream_url))
        renewed = certificate.watching(renewing) if certificate else nullcontext()
        async with controlled(control_path(settings.state_dir), create_control(app)), renewed, _held(lifeline, server):
            await server.serve(sockets)
    log.info("stopped")


def _at_hangup(*do: Callable[[], None]) -> None:
    """Also where nothing is to be read again: the signal's default would end the process."""

    def all_of_it() -> None:
        for one in do:
            one()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, all_of_it)


@asynccontextmanager
async def _held(lifeline: Lifeline | None, server: StoppingServer) -> AsyncIterator[None]:
    """Without the supervisor nobody would start this worker again, nor stop it."""
    if lifeline is None:
        yield
        return
    async with lifeline.held(server.stop):
        yield


def _let_in(settings: Settings) -> AbstractAsyncContextManager[None]:
    """Keep processes apart of which one counts turns by itself; the file of an embedded database is locked already."""
    if settings.is_embedded:
        return nullcontext()
    serving = one_of_several if settings.valkey_url else only_server
    return serving(settings.database, lambda: os.kill(os.getpid(), signal.SIGTERM))


def _settle_memory() -> None:
    """What was loaded stays: the collector needn't look at it again, and may look less often, at the price of some memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
