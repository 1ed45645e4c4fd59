"""`serve`: the gateway itself."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import Annotated

import structlog
import typer
import uvloop

from app.cli.control import control_path, controlled
from app.cli.serving import StoppingServer, gateway_config, locked
from app.errors import StartRefused
from app.main import create_app, create_control, house_of
from app.settings import LogFormat, Settings, load_settings, unknown_variables
from app.telemetry import configure_logs

__all__ = ["serve"]

COLLECTOR_THRESHOLDS = (50_000, 20, 100)

log = structlog.get_logger(__name__)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default GATEWAY_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default GATEWAY_PORT, else 8080.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; one, while turns are counted in the process.")] = 1,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. SIGHUP has it read the configuration file again."""
    if workers > 1:
        message = f"--workers: must be 1, not {workers}: turns are counted in the process, so a second one would break Flxpoint's limit"
        raise StartRefused(message)
    given = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    configure_logs(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    for name in unknown_variables(os.environ):
        log.warning("this variable names no setting and is ignored", variable=name)
    with locked(settings.state_dir, settings.database_path), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    hangup = asyncio.Event()
    # Also without a configuration file: the signal's default would end the process.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    app = create_app(settings, hangup)
    async with app.router.lifespan_context(app):
        _settle_memory()
        config = gateway_config(app, host=settings.host, port=settings.port, grace=settings.shutdown_grace)
        log.info("starting to serve", host=settings.host, port=settings.port, upstream=str(settings.upstream_url))
        async with controlled(control_path(settings.state_dir), create_control(app)):
            await StoppingServer(config, house_of(app).begin_shutdown).serve()
    log.info("stopped")


def _settle_memory() -> None:
    """What was loaded stays: the collector needn't look at it again, and may look less often, at the price of some memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
