"""`simulate`: a strict stand-in for the upstream."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
import uvloop

from app.cli.serving import StoppingServer
from app.errors import StartRefused
from app.simulator.app import create_simulator
from app.simulator.protocol import server_config
from app.simulator.tokens import SimulatedToken
from app.telemetry import configure_logs

__all__ = ["simulate"]

FORM = "NAME=VALUE:KIND"
DEMO_TOKEN = "demo=simulated-token-0001:account"


def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8081,
    token: Annotated[
        list[str] | None, typer.Option(metavar=FORM, help="A token that it knows; KIND is account, source or channel. Repeat it.")
    ] = None,
) -> None:
    """Run a strict stand-in for Flxpoint: it enforces 2 arrivals a second and the one-parameter rule, counts, and fails to order."""
    configure_logs("INFO", as_json=False)
    tokens = [_token(text) for text in token or [DEMO_TOKEN]]
    try:
        simulator = create_simulator(tokens)
    except ValueError as error:
        message = f"--token: should be {FORM}, each once: {error}"
        raise StartRefused(message) from None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(StoppingServer(server_config(simulator, host, port)).serve())


def _token(text: str) -> SimulatedToken:
    name, _, rest = text.partition("=")
    value, _, kind = rest.rpartition(":")
    try:
        return SimulatedToken(name, value, kind)
    except ValueError as error:
        message = f"--token: should be {FORM}: {error}"
        raise StartRefused(message) from None
