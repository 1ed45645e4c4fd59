"""How far something has come, kept in a file of its own, so that a new process goes on from there."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from app.errors import StartRefused

__all__ = ["Bookmark"]

WIDTH = 20

log = structlog.get_logger(__name__)


class Bookmark:
    """A number in a file, made with mode 0600 where it is missing.

    It outlives the process, killed or not. It isn't forced to the disk: after a loss of power it may stand a little further back.

    Args:
        path: the file; its folder must be there.

    Raises:
        StartRefused: the file can't be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"GATEWAY_STATE_DIR: {path} can't be used: {error.strerror}"
            raise StartRefused(message) from error

    def resume(self, newest: int, begin: int | None = None) -> int:
        """The number to go on from: the one that stands there, or `begin`, which is else the newest, where none does.

        Args:
            newest: the last number that was given out. A kept one beyond it is of another database, or of this one before an older copy
                was put in its place.
            begin: where to begin the first time.
        """
        kept = os.pread(self._descriptor, WIDTH, 0).strip()
        if kept.isdigit() and int(kept) <= newest:
            return int(kept)
        first = newest if begin is None else begin
        if kept:
            log.warning("a bookmark is beyond the database: was an older copy restored?", file=self._path.name, after=first)
        self.move(first)
        return first

    def move(self, number: int) -> None:
        """Stand at another number from now on, in one write.

        Raises:
            OSError: it can't be written.
        """
        os.pwrite(self._descriptor, b"%0*d\n" % (WIDTH, number), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
