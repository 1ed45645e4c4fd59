"""The files that a declaration was read from, and whether they are still the same."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["NotReadable", "Sources"]

LARGEST_BYTES = 2**20


class NotReadable(Exception):
    """A file can't be read; the message says why, without its content."""


class Sources:
    """What one attempt read, kept as hashes: its outcome hangs on nothing else of the disk.

    Contents are compared, not times: that holds on every file system, also where a link is swapped, as Kubernetes does.
    """

    def __init__(self) -> None:
        self.read_as: dict[Path, bytes] = {}
        self._seen: Mapping[Path, bytes] = {}

    def read(self, path: Path) -> bytes:
        """A file's content, of 1 MiB at most.

        Raises:
            NotReadable
        """
        try:
            content = _content(path)
        except NotReadable as error:
            self.read_as[path] = _unreadable(error)
            raise
        self.read_as[path] = hashlib.sha256(content).digest()
        return content

    def changed(self) -> bool:
        """Look again: whether the files hold something else now, and did so already at the look before.

        A file that is being written isn't taken half for the whole.
        """
        now = self._look()
        settled = now == self._seen
        self._seen = now
        return settled and now != self.read_as

    def _look(self) -> Mapping[Path, bytes]:
        now = Sources()
        for path in self.read_as:
            with suppress(NotReadable):
                now.read(path)
        return now.read_as


def _unreadable(error: NotReadable) -> bytes:
    return b"unreadable: " + str(error).encode()


def _content(path: Path) -> bytes:
    try:
        # Without waiting: a pipe in a file's place would hold everything up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        message = "no file can have this name"
        raise NotReadable(message) from error
    except OSError as error:
        raise NotReadable(error.strerror or type(error).__name__) from error
    try:
        return _content_of(descriptor)
    except OSError as error:
        raise NotReadable(error.strerror or type(error).__name__) from error
    finally:
        os.close(descriptor)


def _content_of(descriptor: int) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        message = "not a regular file"
        raise NotReadable(message)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        message = f"more than {LARGEST_BYTES} bytes"
        raise NotReadable(message)
    return content
