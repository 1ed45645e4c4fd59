"""What a dead process left in the spool, as the living one takes it over: all of it is on record before anything of its own is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

import structlog

from app.audit.records import Record

__all__ = ["Estate"]

log = structlog.get_logger(__name__)

Append = Callable[[Sequence[Record]], Awaitable[None]]
Close = Callable[[], Awaitable[None]]


class Estate:
    """Records that were left, oldest first. They are written in groups, and then what they left open is given up to recovery.

    Args:
        append: commits records, in order, each once.
        largest: how many records a group has at most.
    """

    def __init__(self, append: Append, largest: int) -> None:
        self._append = append
        self._largest = largest
        self._left: deque[Record] = deque()
        self._close: Close | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._advanced = False

    def __len__(self) -> int:
        return len(self._left)

    @property
    def settled(self) -> bool:
        """Whether nothing is to be done any more."""
        return self._settled.is_set()

    def take_over(self, left: Sequence[Record], close: Close) -> None:
        """There are these; `close` is called when the last of them is on record, and until it succeeds."""
        if left:
            self._left.extend(left)
            self._close = close
            self._settled.clear()

    async def advance(self) -> int:
        """Do what comes next; gives how many records are durable in the store by that. It is done again if it raises."""
        group = list(islice(self._left, self._largest))
        if group:
            await self._append(group)
            for _ in group:
                self._left.popleft()
        elif self._close:
            await self._close()
            self._close = None
            self._settled.set()
        self._advanced = True
        return len(group)

    async def wait(self) -> None:
        """Wait until all is done."""
        await self._settled.wait()

    async def wait_for(self, patience: float) -> None:
        """The same, for so many seconds at most; then say in the log how it stands."""
        try:
            await asyncio.wait_for(self._settled.wait(), patience)
        except TimeoutError:
            if self._advanced:
                log.warning("what the last process left in the spool is still being written", waiting=len(self))
            else:
                log.error("what the last process left in the spool can't be written yet", waiting=len(self))  # noqa: TRY400 - as it says

    def falter(self) -> None:
        """The store has failed since."""
        self._advanced = False
