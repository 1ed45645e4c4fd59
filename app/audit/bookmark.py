"""How far something has come, kept in a file of its own, so that a new process goes on from there."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from app.errors import StartRefused
from app.storage.files import sync_folder, whole_file

__all__ = ["Bookmark"]

WIDTH = 20

log = structlog.get_logger(__name__)


class Bookmark:
    """A number in a file of mode 0600; it begins with `resume`.

    It outlives the process, killed or not. A new file is whole and on disk before it has its name, so one that holds no number was
    damaged. Later numbers aren't forced to the disk: after a loss of power it may stand a little further back.

    Args:
        path: the file; its folder must be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def resume(self, newest: int, *, first: int, oldest: int) -> int:
        """The number to go on from: the one that stands there.

        Args:
            newest: the last number that was given out. A kept one beyond it is of another database, or of this one before an older copy
                was put in its place.
            first: where to begin the first time, and where the kept one is beyond the newest.
            oldest: where to go on when what is kept is no number: whatever wasn't passed on yet comes after.

        Raises:
            StartRefused: the file can't be used.
        """
        try:
            if not self._path.exists():
                with whole_file(self._path) as file:
                    file.write(_written(first))
                sync_folder(self._path.parent)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            return self._kept(newest, first, oldest)
        except OSError as error:
            message = f"GATEWAY_STATE_DIR: {self._path} can't be used: {error.strerror}"
            raise StartRefused(message) from error

    def move(self, number: int) -> None:
        """Stand at another number from now on, in one write.

        Raises:
            OSError: it can't be written.
        """
        assert self._descriptor is not None  # noqa: S101 - it begins with `resume`
        os.pwrite(self._descriptor, _written(number), 0)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _kept(self, newest: int, first: int, oldest: int) -> int:
        assert self._descriptor is not None  # noqa: S101 - it was opened just now
        kept = os.pread(self._descriptor, WIDTH, 0).strip()
        if not kept.isdigit():
            log.warning("a bookmark holds no number: going on from the oldest, so what was passed on may come again", file=self._path.name)
            number = oldest
        elif int(kept) > newest:
            log.warning("a bookmark is beyond the database: was an older copy restored?", file=self._path.name, after=first)
            number = first
        else:
            return int(kept)
        self.move(number)
        return number


def _written(number: int) -> bytes:
    return b"%0*d\n" % (WIDTH, number)
