"""The spool: a file that holds records for as long as the store doesn't take them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from zlib import crc32

import structlog

from app.audit.frames import OVERHEAD, Reading, framed, read
from app.audit.records import Record
from app.audit.records.known import record_from
from app.errors import StartRefused
from app.storage.files import sync_folder

__all__ = ["Spool"]

PREALLOCATED_BYTES = 8 * 1024 * 1024
OPENING = b""

log = structlog.get_logger(__name__)


class Spool:
    """A file of records, each as JSON in a frame of its own, with its checksum (`app.audit.frames`).

    Its first 8 MiB are written with zeros when it is made, so that a full disk doesn't stop it; it grows beyond where it must. What stands
    behind its end is older and on record. Where it is damaged, what can be read counts, and a copy of it stays beside it. Its work blocks.

    Args:
        path: the file, made where it is missing, mode 0600.

    Raises:
        StartRefused: the file can't be made, read or written, is damaged and can't be copied, or holds what this version doesn't know.
    """

    def __init__(self, path: Path) -> None:
        self._at_work = Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            os.fchmod(self._file, 0o600)
            _preallocate(self._file)
            sync_folder(path.parent)
            content = _content(self._file)
        except OSError as error:
            raise _unusable(path, error) from error
        found = read(content)
        self._written, self._end = found.write, found.end
        if found.torn:
            log.warning("the spool's last entry is torn and left out", offset=found.end)
        if found.damages:
            _report(found, _copied(path, content))
        self.left = _records(found.entries, path)
        self._open(path)

    @property
    def holds_any(self) -> bool:
        """Whether there is a record in it, or it isn't known to be empty."""
        return self._end != OVERHEAD

    def keep(self, bodies: Sequence[bytes]) -> None:
        """Add records, each as JSON; durable when it returns.

        Raises:
            OSError: they aren't in it.
        """
        with self._at_work:
            if not self._end:
                self._add([OPENING])
            self._add(bodies)

    def clear(self) -> None:
        """Empty it, and give back what it grew by.

        Raises:
            OSError: it may still hold what it held.
        """
        with self._at_work:
            self._end = 0
            self._add([OPENING])
            os.ftruncate(self._file, PREALLOCATED_BYTES)

    def close(self) -> None:
        """Close the file; what it holds stays. Where a write to it hangs it stays open: its number mustn't become another file's."""
        if self._at_work.acquire(blocking=False):
            os.close(self._file)

    def _open(self, path: Path) -> None:
        try:
            if not self._end:
                self._add([OPENING])
        except OSError as error:
            raise _unusable(path, error) from error

    def _add(self, entries: Sequence[bytes]) -> None:
        self._written += 1
        frames = framed(entries, write=self._written, since=self._end)
        _write(self._file, frames, self._end)
        os.fsync(self._file)
        self._end += len(frames)


def _preallocate(file: int) -> None:
    size = os.fstat(file).st_size
    if size < PREALLOCATED_BYTES:
        _write(file, bytes(PREALLOCATED_BYTES - size), size)
        os.fsync(file)


def _write(file: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _content(file: int) -> bytes:
    with os.fdopen(os.dup(file), "rb") as reader:
        reader.seek(0)
        return reader.read()


def _report(found: Reading, copy: Path) -> None:
    lost = sum(damage.end - damage.first for damage in found.damages)
    text = "the spool is damaged; what can be read of it is taken up, the rest is lost"
    log.error(text, entries=len(found.entries), places=len(found.damages), lost_bytes=lost, copy=str(copy))


def _copied(path: Path, content: bytes) -> Path:
    """A copy of the damaged file: the spool itself is emptied when all that can be read of it is on record."""
    copy = path.with_name(f"{path.name}.damaged-{crc32(content):08x}")
    try:
        file = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write(file, content, 0)
            os.fsync(file)
        finally:
            os.close(file)
        sync_folder(path.parent)
    except OSError as error:
        message = f"GATEWAY_STATE_DIR: {path} is damaged, and no copy of it can be made before it is used again: {error}"
        raise StartRefused(message) from error
    return copy


def _records(entries: Sequence[bytes], path: Path) -> list[Record]:
    """The records, each once, in the order in which they were given."""
    found: dict[str, Record] = {}
    try:
        for record in map(record_from, entries):
            found[record.id] = record
    except ValueError as error:
        message = f"GATEWAY_STATE_DIR: {path} holds what this version doesn't know; start the version that wrote it: {error}"
        raise StartRefused(message) from error
    return list(found.values())


def _unusable(path: Path, error: OSError) -> StartRefused:
    return StartRefused(f"GATEWAY_STATE_DIR: {path} can't be used: {error}")
