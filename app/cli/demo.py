"""`demo`: everything at once, with nothing to set up."""

from __future__ import annotations

import asyncio
import base64
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx2
import typer
import uvloop

from app.administration import Administration
from app.audit import list_records
from app.callers import GrantAsked, NewCaller
from app.cli.output import print_table, screen
from app.cli.records import COLUMNS, record_rows
from app.cli.serving import free_port, gateway_config, running
from app.cli.steps import CALLER, STEPS, TOKEN, Step, answer_of, headers_of, is_expected
from app.domain import TokenKind, TokenValue
from app.main import House, create_app, house_of
from app.opening import open_state
from app.settings import Settings
from app.simulator.app import create_simulator
from app.simulator.protocol import server_config
from app.simulator.tokens import SimulatedToken
from app.storage import reading
from app.telemetry import configure_logs
from app.vault import NewToken

__all__ = ["demo"]

OWN_VARIABLES = "FLXPOINT_GATEWAY_DEMO_"
SHOWN_RECORDS = 100
ONCE_HELP = "Stop after the calls: status 0, or 1 if any answer was not the expected one."


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demo runs on: the gateway's address, the caller's key, the gateway's inside."""

    url: str
    key: str
    house: House


def demo(
    once: Annotated[bool, typer.Option("--once", help=ONCE_HELP)] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Start a simulated Flxpoint and the gateway, make some calls, show what happened, and serve until Ctrl-C."""
    configure_logs("WARNING", as_json=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        passed = runner.run(_demo(once=once))
    if not passed:
        raise typer.Exit(1)


async def _demo(*, once: bool) -> bool:
    async with _stage() as stage:
        passed = await _calls(stage)
        await _records(stage)
        if not once:
            _invite(stage)
            await _signal()
    return passed


@asynccontextmanager
async def _stage() -> AsyncIterator[Stage]:
    value = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-demo-") as folder:
        simulator = create_simulator([SimulatedToken(TOKEN, value, "account")])
        async with running(server_config(simulator, "127.0.0.1", 0), free_port()) as upstream:
            # A prefix of its own: the demo must not touch what the environment's variables name.
            master = "demo:" + base64.b64encode(secrets.token_bytes(32)).decode()
            settings = Settings(_env_prefix=OWN_VARIABLES, state_dir=Path(folder), upstream_url=upstream, master_keys=master)
            key = await _prepare(settings, TokenValue(value))
            app = create_app(settings)
            async with app.router.lifespan_context(app):
                config = gateway_config(app, host="127.0.0.1", port=0, grace=0)
                async with running(config, free_port()) as url:
                    screen().print(f"Simulated Flxpoint at {upstream}, gateway at {url}, state in {folder}.\n")
                    yield Stage(url, key, house_of(app))


async def _prepare(settings: Settings, value: TokenValue) -> str:
    async with open_state(settings) as (engine, keyring):
        administration = Administration(engine, keyring, "command:demo")
        await administration.add_token(NewToken(TOKEN, TokenKind.ACCOUNT, value))
        _, key = await administration.add_caller(NewCaller(CALLER, (GrantAsked(TOKEN),)))
        return key.reveal()


async def _calls(stage: Stage) -> bool:
    rows = []
    async with httpx2.AsyncClient(base_url=stage.url, trust_env=False) as client:
        for step in STEPS:
            began = time.monotonic()
            response = await client.patch("/orders/link", params=step.query or None, content=step.body, headers=headers_of(step, stage.key))
            rows.append((step, response, (time.monotonic() - began) * 1_000))
    print_table(
        ("", "call", "PATCH /orders/link?…", "status", "answer", "ms", "of it queue, upstream"),
        (_row(step, response, ms) for step, response, ms in rows),
        nothing="",
    )
    screen().print("\nThe first call waited: a lane whose past isn't known sends nothing for 1.25 s.\n")
    return all(is_expected(step, response) for step, response, _ in rows)


def _row(step: Step, response: httpx2.Response, ms: float) -> tuple[object, ...]:
    query = step.query if len(step.query) <= 32 else step.query[:29] + "…"  # noqa: PLR2004 - a column's width
    mark = "ok" if is_expected(step, response) else f"EXPECTED {step.status} {step.expected}"
    timing = response.headers.get("server-timing", "").replace("queue;dur=", "").replace(" upstream;dur=", " ")
    return (mark, step.what, query, response.status_code, answer_of(response), f"{ms:.1f}", timing)


async def _records(stage: Stage) -> None:
    stage.house.audit.flush()
    await stage.house.audit.settled()
    async with reading(stage.house.engine) as connection:
        records = await list_records(connection, limit=SHOWN_RECORDS)
    screen().print("What is on record:")
    print_table(COLUMNS, record_rows(records[::-1]), nothing="nothing")


def _invite(stage: Stage) -> None:
    curl = f"curl -i -X PATCH -H 'Authorization: Bearer {stage.key}' '{stage.url}/orders/link?orderIds=1005,1006'"
    screen().print(f"\nTry it (Ctrl-C stops):\n\n  {curl}\n\nThe API, to read and to try: {stage.url}/gateway/docs\n")


async def _signal() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
