"""The spool: a file that holds records for as long as the store doesn't take them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from zlib import crc32

import orjson
import structlog

from app.audit.records import Name, Record
from app.errors import StartRefused

__all__ = ["Spool"]

PREALLOCATED_BYTES = 8 * 1024 * 1024
FRAME = struct.Struct(">II")
END = FRAME.pack(0, 0)

log = structlog.get_logger(__name__)


class Spool:
    """A file of records, each in a frame: its length and its CRC-32, four bytes each, and its members as JSON.

    Its first 8 MiB are written with zeros when it is made, so that a full disk doesn't stop it; it grows beyond where it must. A frame of
    length 0 ends it. What stands behind that is older and on record. Its work blocks.

    Args:
        path: the file, made where it is missing, mode 0600.

    Raises:
        StartRefused: the file can't be made, read or written, or holds what this version doesn't know.
    """

    def __init__(self, path: Path) -> None:
        self._at_work = Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            os.fchmod(self._file, 0o600)
            _preallocate(self._file)
            _sync_folder(path.parent)
            content = _content(self._file)
        except OSError as error:
            message = f"GATEWAY_STATE_DIR: {path} can't be used: {error}"
            raise StartRefused(message) from error
        entries = list(_entries(content))
        self._end = sum(FRAME.size + len(entry) for entry in entries)
        self.left = _records(entries, path)

    @property
    def holds_any(self) -> bool:
        """Whether there is a record in it."""
        return self._end > 0

    def keep(self, bodies: Sequence[bytes]) -> None:
        """Add records, each as JSON; durable when it returns.

        Raises:
            OSError: they aren't in it.
        """
        frames = b"".join(FRAME.pack(len(body), crc32(body)) + body for body in bodies)
        with self._at_work:
            _write(self._file, frames + END, self._end)
            os.fsync(self._file)
            self._end += len(frames)

    def clear(self) -> None:
        """Empty it, and give back what it grew by.

        Raises:
            OSError: it still holds what it held.
        """
        with self._at_work:
            _write(self._file, END, 0)
            os.ftruncate(self._file, PREALLOCATED_BYTES)
            os.fsync(self._file)
            self._end = 0

    def close(self) -> None:
        """Close the file; what it holds stays. Where a write to it hangs it stays open: its number mustn't become another file's."""
        if self._at_work.acquire(blocking=False):
            os.close(self._file)


def _preallocate(file: int) -> None:
    size = os.fstat(file).st_size
    if size < PREALLOCATED_BYTES:
        _write(file, bytes(PREALLOCATED_BYTES - size), size)
        os.fsync(file)


def _sync_folder(folder: Path) -> None:
    """Have the file's name survive a loss of power too."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write(file: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _content(file: int) -> bytes:
    with os.fdopen(os.dup(file), "rb") as reader:
        reader.seek(0)
        return reader.read()


def _entries(content: bytes) -> Iterator[bytes]:
    """The entries, up to the end or to one that is torn: it was never told to be durable."""
    offset = 0
    while offset + FRAME.size <= len(content):
        length, checksum = FRAME.unpack_from(content, offset)
        if length == 0:
            return
        offset += FRAME.size
        entry = content[offset : offset + length]
        if len(entry) < length or crc32(entry) != checksum:
            log.warning("the spool's last entry is torn and left out", offset=offset)
            return
        yield entry
        offset += length


def _records(entries: Sequence[bytes], path: Path) -> list[Record]:
    """The records, each once, in the order in which they were given."""
    found: dict[str, Record] = {}
    try:
        for members in map(orjson.loads, entries):
            found[members["id"]] = Record(Name(members["name"]), members)
    except (ValueError, KeyError, TypeError) as error:
        message = f"GATEWAY_STATE_DIR: {path} holds what this version doesn't know; start the version that wrote it: {error}"
        raise StartRefused(message) from error
    return list(found.values())
