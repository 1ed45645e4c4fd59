"""A job that is being carried out here: what of it is at hand, and what is under way. Pure."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain import Priority
from app.jobs.job import Job, Part

__all__ = ["Lane", "Run"]

MOST_FAULTS = 3
MOST_SUSPICIONS = 10
"""With their pauses about four minutes: what Flxpoint doesn't get over by then may be the part's own fault."""


class Lane(NamedTuple):
    """One caller's jobs for one operation with one token, of one priority."""

    caller_id: str
    token_id: str
    operation: str
    priority: Priority


@dataclass(slots=True)
class Run:
    """A job in the hands of this process.

    In memory are the parts of one page at most, `page`, which holds those up to the place `seen`. `more`: the rows may hold parts that
    wait. `calls` are the IDs of the calls under way. `looked_up`: it is known which parts are left that another process had taken;
    before, those up to the place `looked` are. `held_until`: when the lease ends that the job was put down with (monotonic, in seconds),
    until that is renewed with the others'.
    """

    job: Job
    page: deque[Part] = field(default_factory=deque)
    seen: int = 0
    more: bool = True
    calls: set[str] = field(default_factory=set)
    looked: int = 0
    looked_up: bool = False
    held_until: float = math.inf
    _returned: bool = False
    _faults: Counter[int] = field(default_factory=Counter)
    _suspicions: Counter[int] = field(default_factory=Counter)

    @property
    def lane(self) -> Lane:
        """Whose calls share a bound on how many are under way, and pause together where they can't be made now."""
        return Lane(self.job.caller_id, self.job.token_id, self.job.operation, self.job.priority)

    def turn_page(self, parts: Sequence[Part]) -> bool:
        """Take the next parts that wait, read from behind `seen`; gives whether to read once more, from the beginning."""
        self.page.extend(parts)
        if parts:
            self.seen = parts[-1].seq
            return False
        self.more, self._returned, self.seen = self._returned, False, 0
        return self.more

    def look_on(self, parts: Sequence[Part], *, last: bool) -> None:
        """The next parts that are taken, read from behind `looked`, are known; `last`: there are no others."""
        self.looked, self.looked_up = (parts[-1].seq if parts else self.looked), last

    def give_back(self) -> None:
        """A part waits again. It comes after the others: were it first, it could hold them up for ever."""
        self.more = self._returned = True

    def blame(self, part: Part, *, well: bool, suspect: bool) -> bool:
        """It failed: gives whether it has often enough to be given up.

        Args:
            part: the part.
            well: its lane was well.
            suspect: it may be its own fault though its lane wasn't.
        """
        self._faults[part.seq] += well
        self._suspicions[part.seq] += suspect
        return self._faults[part.seq] >= MOST_FAULTS or self._suspicions[part.seq] >= MOST_SUSPICIONS

    def forget(self) -> None:
        """Have the rows read again: they may be other than they were thought to be."""
        self.page.clear()
        self.seen, self.more = 0, True
        self.looked, self.looked_up = 0, False
