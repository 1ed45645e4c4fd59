"""What all tests share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, Phase, settings
from structlog.dev import ConsoleRenderer, plain_traceback

from app.storage import Dialect
from app.storage.migrate import upgrade
from app.telemetry.logs import QUIET
from tests.rig import Rig, rigged
from tests.servers.postgres import Postgres, postgres
from tests.storage.database import address_of, make, opened

structlog.configure([*structlog.get_config()["processors"][:-1], ConsoleRenderer(colors=False, exception_formatter=plain_traceback)])
LOGGING = structlog.get_config()
"""Tracebacks without locals, as the gateway writes them: with them one takes a second and more to write."""

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says how busy the machine is, not whether the code is right."""
settings.register_profile("untimed", UNTIMED)
settings.load_profile("untimed")
settings.register_profile("brief", UNTIMED, phases=[Phase.explicit, Phase.generate], database=None)
"""For mutation testing, which asks whether a test fails, not for the smallest example: `--hypothesis-profile=brief`."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: object) -> AsyncIterator[Rig]:
    """One gateway for a whole test file, so that its lane's cold start is waited for once."""
    folder: Path = tmp_path_factory.mktemp("state")  # type: ignore[attr-defined]
    async with rigged(folder) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for all tests of a process that leave it running; each takes a database of its own from it."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres_server: Postgres) -> str:
    """The name of a PostgreSQL database with the newest schema, to be copied."""
    address = postgres_server.new_database()

    async def migrate() -> None:
        async with opened(address) as engine:
            await upgrade(engine)

    asyncio.run(migrate())
    return address.rpartition("/")[2]


@pytest.fixture(params=list(Dialect))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with the newest schema: each test that uses it runs on SQLite and on PostgreSQL.

    One that is about SQLite's file says so by `ON_SQLITE`.
    """
    if request.param == Dialect.SQLITE:
        asyncio.run(make(tmp_path / "gateway.db"))
        yield address_of(tmp_path / "gateway.db")
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        yield (address := server.new_database(request.getfixturevalue("template")))
        server.drop(address)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Whatever a test, or what a whole file shares, did to the process's logging: no other test sees it."""
    structlog.configure(**LOGGING)
    root = logging.getLogger()
    handlers, levels = root.handlers, {name: logging.getLogger(name).level for name in ("", *QUIET)}
    yield
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(**LOGGING)
