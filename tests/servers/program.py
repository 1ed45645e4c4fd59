"""A server's process, which can be ended, killed, made to stand still, and started again at the same address."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.cli.processes import PATIENCE_SECONDS, until

__all__ = ["Program"]


class Program:
    """A command that serves.

    Args:
        command: the program and its arguments.
        log: the file to which it writes what it has to say; each start adds to it.
        answers: whether the server can be used.
        variables: its environment; ours, if None.
        user: who it runs as; ourselves, if None.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        answers: Callable[[], bool],
        *,
        variables: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self._command, self._log, self._answers, self._variables, self._user = command, log, answers, variables, user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote, over all its starts."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it, and wait until it can be used.

        Raises:
            AssertionError: it ended instead; with what it wrote.
            TimeoutError: it can't be used in time.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._variables,
                user=self._user,
                group=None if self._user is None else _group_of(self._user),
                extra_groups=None if self._user is None else [],
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._usable)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal that ends it, and wait until it and its children have ended; nothing, if it doesn't run."""
        if self._process is None:
            return
        children = self._children()
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
        until(lambda: not any(map(_lives, children)))

    def kill(self) -> None:
        """End it and its children as `kill -9` does."""
        self._signal_all(signal.SIGKILL)
        self.end(signal.SIGKILL)

    def pause(self) -> None:
        """Make it and its children stand still: connections stay, nothing is answered. They do when it returns."""
        self._signal_all(signal.SIGSTOP)
        until(lambda: all(map(_stands_still, self._processes())))

    def resume(self) -> None:
        """Let it and its children go on."""
        self._signal_all(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It and its children stand still meanwhile."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is killed, and started again at the end."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def _usable(self) -> bool:
        assert self.runs, self.log
        return self._answers()

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _processes(self) -> list[int]:
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._process.pid, *self._children()]

    def _children(self) -> list[int]:
        assert self._process
        try:
            listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        return [int(child) for child in listed.split()]


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def _stands_still(process: int) -> bool:
    """Whether a process is stopped, or gone; it is told to, and then stops at its next turn."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] in "TZ"
    except (FileNotFoundError, ProcessLookupError):
        return True
