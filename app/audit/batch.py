"""Lines of the stream that are sent piece by piece: what is left of them, and which are whole at the other end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["Batch"]


class Batch:
    """Lines on their way.

    Args:
        lines: each with the number of the record that is done with when the line is sent.
    """

    def __init__(self, lines: Sequence[tuple[int, bytes]] = ()) -> None:
        self._text = memoryview(b"".join(line for _, line in lines))
        self._ends = [0, *accumulate(len(line) for _, line in lines)]
        self._numbers = [number for number, _ in lines]
        self._sent = 0

    @property
    def rest(self) -> memoryview:
        """What is to be sent; empty at the end."""
        return self._text[self._sent :]

    @property
    def done(self) -> int | None:
        """The number of the last line that was sent whole; None where none was."""
        whole = self._whole()
        return self._numbers[whole - 1] if whole else None

    def advance(self, count: int) -> None:
        """So many bytes more were sent."""
        self._sent += count

    def rewind(self) -> None:
        """Send the line that isn't whole from its beginning: what comes next goes somewhere else."""
        self._sent = self._ends[self._whole()]

    def cut(self) -> None:
        """Leave out the lines that aren't begun: another process sends them."""
        whole = self._whole()
        end = self._ends[whole + (self._sent > self._ends[whole])]
        self._text = self._text[:end]

    def _whole(self) -> int:
        return bisect_right(self._ends, self._sent) - 1
