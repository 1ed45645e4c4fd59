"""The processes that are measured: started on a free port of the loopback address, and always stopped, each by its own ID."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.cli.serving import free_port
from benchmarks.client import Address, connected, request_bytes

__all__ = ["Child", "free_address", "spawned"]

PROJECT = Path(__file__).parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
TICKS = os.sysconf("SC_CLK_TCK")
LOG_TAIL = 2_000


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours that serves HTTP at `address` and writes its log to `log`."""

    process: subprocess.Popen[bytes]
    address: Address
    log: Path

    async def ready(self, target: str) -> None:
        """Wait until it answers at a target, and not with a server error.

        Raises:
            RuntimeError: it ended, or took more than a minute.
        """
        until = time.monotonic() + START_SECONDS
        while not await self._answers(target):
            if self.process.poll() is not None or time.monotonic() > until:
                message = f"{self.log.stem} doesn't get ready; its log ends with:\n{self.log_tail()}"
                raise RuntimeError(message)
            await asyncio.sleep(POLL_SECONDS)

    async def ended(self) -> None:
        """Wait until it has ended by itself.

        Raises:
            RuntimeError: it failed.
        """
        while self.process.poll() is None:
            await asyncio.sleep(POLL_SECONDS)
        if self.process.returncode:
            message = f"{self.log.stem} failed; its log ends with:\n{self.log_tail()}"
            raise RuntimeError(message)

    def cpu_seconds(self) -> float:
        """The CPU time that all its threads have used, in user and kernel mode (proc(5): fields 14 and 15 of `stat`, in clock ticks)."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS

    def memory_bytes(self) -> int:
        """The memory it holds, each shared page divided by those who share it (proc(5): `Pss` of `smaps_rollup`, in kB)."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="ascii")
        return 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))

    def peak_memory_bytes(self) -> int:
        """The most memory that it has held at a time (proc(5): `VmHWM` of `status`, in kB); 0 where it has ended."""
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            return 1024 * next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
        return 0

    def pin(self, cores: AbstractSet[int]) -> None:
        """Let all its threads, and those it will start, run on these cores only. Nothing happens where it has ended."""
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)

    def stop(self) -> None:
        """Stop it in order; by force when that takes too long."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def _answers(self, target: str) -> bool:
        try:
            async with connected(self.address, 1) as (connection,):
                return (await connection.exchange(request_bytes("GET", target, self.address))).status < 500
        except OSError:
            return False

    def log_tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]


def free_address() -> Address:
    """A loopback address whose port was free a moment ago."""
    with free_port() as listening:
        host, port = listening.getsockname()[:2]
        return Address(host, port)


@contextmanager
def spawned(
    arguments: Sequence[str],
    address: Address,
    log: Path,
    environment: Mapping[str, str] | None = None,
    program: str = sys.executable,
) -> Iterator[Child]:
    """Run `<program> <arguments>` in the project's folder while the context lasts.

    Args:
        arguments: what follows the program.
        address: where the process will listen.
        log: takes what it prints.
        environment: variables that are set for it. Of this process's own variables it gets all but `GATEWAY_*`, and those
            by which coverage is measured: what is started here is killed, or stands for something else.
        program: this Python, unless another is named.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "COVERAGE_"))}
    with log.open("wb") as file:
        command = [program, *arguments]
        process = subprocess.Popen(command, cwd=PROJECT, env=inherited | dict(environment or {}), stdout=file, stderr=file)
    child = Child(process, address, log)
    try:
        yield child
    finally:
        child.stop()
