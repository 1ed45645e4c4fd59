"""The program in processes of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests import loopback

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


def environment(**settings: object) -> dict[str, str]:
    """A process's variables: these settings, and of ours only what Python and the measuring of coverage need."""
    return unmeasured(**settings) | {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}


def unmeasured(**settings: object) -> dict[str, str]:
    """The same for a process whose coverage isn't measured, which doubles what its start takes.

    One that is killed leaves no measurement, and what only stands for Flxpoint runs code that other tests measure.
    """
    ours = {name: value for name, value in os.environ.items() if name in KEPT}
    return ours | {f"GATEWAY_{name}": str(value) for name, value in settings.items()}


def command(*arguments: str) -> list[str]:
    """The command line that runs the program, whether or not the package is installed."""
    return [sys.executable, "-m", "app.cli", *arguments]


def run(*arguments: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        env=variables,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def until(condition: Callable[[], object], within: float = PATIENCE_SECONDS) -> None:
    """Ask again and again until the condition holds.

    Raises:
        TimeoutError: it doesn't within that many seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Process:
    """A command that runs until it is stopped; what it writes goes into files."""

    def __init__(self, arguments: tuple[str, ...], variables: Mapping[str, str], folder: Path, inside: tuple[str, ...] = ()) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self.process = subprocess.Popen(
                [*inside, *command(*arguments)], env=variables, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return self._err.read_text(encoding="utf-8")

    def wait_for(self, url: str) -> None:
        """Wait until an address answers 200.

        Raises:
            TimeoutError: it doesn't in time.
        """

        def answers() -> bool:
            assert self.process.poll() is None, self.err
            try:
                return loopback.get(url).status_code == httpx2.codes.OK
            except httpx2.TransportError:
                return False

        until(answers)

    def wait_for_line(self, text: str, count: int = 1) -> None:
        """Wait until its log holds a text, so many times.

        Raises:
            TimeoutError: it doesn't in time.
        """

        def logged() -> bool:
            assert self.process.poll() is None, self.err
            return self.err.count(text) >= count

        until(logged)

    def stop(self) -> int:
        """Send SIGTERM and wait for its end; the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def started(*arguments: str, variables: Mapping[str, str], folder: Path, inside: tuple[str, ...] = ()) -> Iterator[Process]:
    """A process of that command; ended at the end, whatever happens. `inside` is a command that puts itself in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Process(arguments, variables, folder, inside)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            try:
                running.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
