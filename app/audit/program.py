"""A program of the operator's that is run with a text on its standard input."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

__all__ = ["ProgramFailed", "run_program"]

INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")
MOST_SAID = 2_000
CHUNK = 65_536
DEATH_SECONDS = 5.0


class ProgramFailed(Exception):
    """It couldn't be run, ended with another status than 0, or took too long; `said` is the beginning of its standard error."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.said = said


async def run_program(command: Sequence[str], text: bytes, *, within: float) -> None:
    """Run a program to its end, without a shell, in a process group of its own.

    Of this process's variables it gets only those that say where and in which language it runs: no setting, so no secret, is among them.
    What it writes to standard output is dropped.

    Args:
        command: the program and its arguments.
        text: its standard input.
        within: seconds after which it is killed, with what it started in its own session.

    Raises:
        ProgramFailed: with the reason.
    """
    transport, process = await _started(command)
    said, ended = bytearray(), False
    try:
        async with asyncio.timeout(within):
            status = await _converse(process, text, said)
        ended = True
    except TimeoutError:
        message = f"it took more than {within:g} s and was killed"
        raise ProgramFailed(message, _text(said)) from None
    finally:
        if not ended:
            await _kill(transport, process)
    if status:
        message = f"it ended with status {status}"
        raise ProgramFailed(message, _text(said))


async def _started(command: Sequence[str]) -> tuple[asyncio.SubprocessTransport, Process]:
    """The program, running; of `asyncio.create_subprocess_exec` the transport, which can be closed, isn't to be had."""
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=CHUNK, loop=loop),
            *command,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            env=_inherited(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramFailed(error.strerror or str(error)) from error
    return transport, Process(transport, protocol, loop)


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in INHERITED if name in environ}


async def _converse(process: Process, text: bytes, said: bytearray) -> int:
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(cast("asyncio.StreamWriter", process.stdin), text))
        group.create_task(_listen(cast("asyncio.StreamReader", process.stderr), said))
    return await process.wait()


async def _feed(its_input: asyncio.StreamWriter, text: bytes) -> None:
    """Give it the text; it need not read it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        # Of one that has ended the input is closed already; uvloop takes no write to it.
        if not its_input.is_closing():
            its_input.write(text)
            await its_input.drain()
    its_input.close()


async def _listen(its_errors: asyncio.StreamReader, said: bytearray) -> None:
    """Keep the beginning of what it says, and let it say the rest, until it and what it started have ended."""
    while chunk := await its_errors.read(CHUNK):
        said += chunk[: MOST_SAID - len(said)]


async def _kill(transport: asyncio.SubprocessTransport, process: Process) -> None:
    """End it with all that it started in its session. What it started in another may hold its pipes open, and isn't waited for."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    transport.close()
    # The kernel may take its time, as with a file system that doesn't answer.
    with suppress(TimeoutError):
        async with asyncio.timeout(DEATH_SECONDS):
            await process.wait()


def _text(said: bytearray) -> str:
    return said.decode(errors="replace").strip()
