"""The frames in which entries stand in the spool's file, and what can be read of a file in any condition.

A write adds one frame or several, at the end of those before; every write has a number, and begins when the one before is on disk.
The first frame of a use is empty. Emptied, the file is written from its beginning again, so frames of older uses lie behind its end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

__all__ = ["OVERHEAD", "Damage", "Frame", "Reading", "framed", "read"]

MARK = b"\x1eREC"
HEADER = struct.Struct(">4sIQQI")
PLACE = struct.Struct(">IQQQ")
OVERHEAD = HEADER.size
"""The bytes of a frame beside those of its entry."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An entry, where it stands, and with which write it came there; `since` is where that write began."""

    offset: int
    write: int
    since: int
    entry: bytes

    @property
    def end(self) -> int:
        """Where the next begins."""
        return self.offset + OVERHEAD + len(self.entry)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that were durable and can't be read, from `first` until before `end`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds.

    `end`: where the next write goes on. `write`: the highest number of a write that there is. `torn`: the last write hasn't wholly
    reached the disk, so nobody was told that it had.
    """

    entries: list[bytes]
    end: int
    write: int
    damages: list[Damage]
    torn: bool


def framed(entries: Sequence[bytes], *, write: int, since: int) -> bytes:
    """The frames of one write that begins there. An entry has no byte 0x1E: JSON has none."""
    parts, offset = [], since
    for entry in entries:
        parts += [HEADER.pack(MARK, len(entry), write, since, _checksum(entry, write, since, offset)), entry]
        offset += OVERHEAD + len(entry)
    return b"".join(parts)


def read(content: bytes) -> Reading:
    """Every entry that was durable and can be read, in their order, and what can't be.

    A gap before which a later write began is damage, and what follows it counts; one in the last write is a tear, and what follows it was
    never told to be durable. Frames of a lower write than the one before them are older, and on record.
    """
    there = list(_frames(content))
    if not there and any(content):
        return Reading([], 0, 0, [Damage(0, len(content))], torn=False)
    current = list(_current(there))
    last = max((frame.since for frame in current), default=0)
    entries, damages, end = [], [], 0
    for frame in current:
        if frame.offset > end >= last:
            break
        if frame.offset > end:
            damages.append(Damage(end, frame.offset))
        end = frame.end
        entries.append(frame.entry)
    highest = max((frame.write for frame in there), default=0)
    return Reading([entry for entry in entries if entry], end, highest, damages, torn=_is_torn(content, end, current))


def _current(frames: Sequence[Frame]) -> Iterator[Frame]:
    reached = 0
    for frame in frames:
        if frame.write < reached:
            return
        reached = frame.write
        yield frame


def _frames(content: bytes) -> Iterator[Frame]:
    """Every whole frame: behind one that isn't, the next is found by its mark."""
    offset = content.find(MARK)
    while offset >= 0:
        frame = _frame_at(content, offset)
        if frame:
            yield frame
        offset = content.find(MARK, frame.end if frame else offset + 1)


def _frame_at(content: bytes, offset: int) -> Frame | None:
    if offset + OVERHEAD > len(content):
        return None
    _, length, write, since, checksum = HEADER.unpack_from(content, offset)
    entry = content[offset + OVERHEAD : offset + OVERHEAD + length]
    whole = len(entry) == length and checksum == _checksum(entry, write, since, offset)
    return Frame(offset, write, since, entry) if whole else None


def _is_torn(content: bytes, end: int, current: Sequence[Frame]) -> bool:
    """Whether a later write than the last that can be read was begun at the end, or the last one goes on there."""
    if content[end : end + len(MARK)] != MARK or end + OVERHEAD > len(content):
        return False
    return bool(HEADER.unpack_from(content, end)[2] >= max((frame.write for frame in current), default=0))


def _checksum(entry: bytes, write: int, since: int, offset: int) -> int:
    """It covers the place too: a frame that lies elsewhere isn't one."""
    return crc32(entry, crc32(PLACE.pack(len(entry), write, since, offset)))
