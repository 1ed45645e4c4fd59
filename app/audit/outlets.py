"""Where the stream's lines go: standard output, or a file that may be moved away at any time."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path
from typing import Protocol

from app.errors import StartRefused

__all__ = ["FileOutlet", "Outlet", "StandardOutput", "outlet_of"]

STANDARD_OUTPUT = 1
PATIENCE_MS = 1_000
LARGEST_WRITE = 1 << 20


class Outlet(Protocol):
    """Takes bytes."""

    def freshen(self) -> bool:
        """Make sure that bytes go where they should by now; gives whether that is somewhere else than before.

        Raises:
            OSError: they can't.
        """

    def send(self, text: memoryview) -> int:
        """Take the text's beginning; gives how many bytes.

        Raises:
            TimeoutError: whoever reads doesn't.
            OSError: it can't be written.
        """

    def close(self) -> None:
        """Take no more."""


def outlet_of(target: str) -> Outlet:
    """What `GATEWAY_AUDIT_STREAM` names: `stdout`, or `file:PATH`.

    Raises:
        StartRefused: it can't be written.
    """
    try:
        return StandardOutput() if target == "stdout" else FileOutlet(Path(target.removeprefix("file:")))
    except OSError as error:
        message = f"GATEWAY_AUDIT_STREAM: {target} can't be written: {error.strerror or error}"
        raise StartRefused(message) from error


class StandardOutput:
    """Standard output: most often a pipe.

    A pipe that says that it can be written takes `PIPE_BUF` bytes without a pause (POSIX, pipes and FIFOs); so a reader that doesn't read
    is noticed before it holds anything up. `O_NONBLOCK` won't do: it would hold for whoever shares the pipe, such as the log.

    Raises:
        OSError: there is none.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            # The number of a stream that was closed at the start may be another file's by now: the database's, say.
            message = "standard output is closed"
            raise OSError(message)
        self._room = select.poll()
        self._room.register(STANDARD_OUTPUT, select.POLLOUT)

    def freshen(self) -> bool:
        """It stays where it is."""
        return False

    def send(self, text: memoryview) -> int:
        """Take the text's beginning; waits a second at most for whoever reads."""
        if not self._room.poll(PATIENCE_MS):
            message = "whoever reads standard output doesn't"
            raise TimeoutError(message)
        return os.write(STANDARD_OUTPUT, text[: select.PIPE_BUF])

    def close(self) -> None:
        """Leave it open: it isn't ours."""


class FileOutlet:
    """A file that is appended to, made with mode 0600 where it is missing; its folder must be there.

    Raises:
        OSError: it can't be written, or it isn't a regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._descriptor = self._open()

    def freshen(self) -> bool:
        """Open the file anew if it was moved away or removed."""
        if self._is_ours():
            return False
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor
        return True

    def send(self, text: memoryview) -> int:
        """Take the text's beginning."""
        return os.write(self._descriptor, text[:LARGEST_WRITE])

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        # Without O_NONBLOCK a FIFO that nobody reads would hold up the start.
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            _end_line(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _end_line(descriptor: int) -> None:
    """End a line that a process which was killed didn't: what follows stands in lines of its own."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        message = "it isn't a regular file"
        raise OSError(message)
    if found.st_size and os.pread(descriptor, 1, found.st_size - 1) != b"\n":
        os.write(descriptor, b"\n")
