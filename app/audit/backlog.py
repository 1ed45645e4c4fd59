"""The records that wait to be written, and who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

import structlog

from app.audit.canonical import canonical
from app.audit.records import Record

__all__ = ["Backlog", "Pending"]

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Pending:
    """A record on its way.

    `since` is on the loop's clock, in seconds. `required`: what it announces waits for it, so it is withdrawn rather than kept; if it comes
    on record all the same, `undone_by` makes the record that says how that ended.
    """

    record: Record
    since: float
    required: bool
    undone_by: Callable[[], Record] | None = None
    waits: bool = True
    stored: bool = False
    spooled: bool = False
    logged: bool = False
    heard_by: list[asyncio.Future[bool]] = field(default_factory=list)

    def tell(self, *, durable: bool) -> None:
        """It is on disk; or it was withdrawn, or those who wait have waited long enough."""
        for heard in self.heard_by:
            if not heard.done():
                heard.set_result(durable)
        self.heard_by.clear()


class Backlog:
    """What waits to be written, oldest first.

    What is asked for each record costs the same however much waits.

    `stalled`: the store doesn't take it. `spooled`: how many of those that wait are in the spool. `set_aside`: how many could never be
    written, and were left out.
    """

    def __init__(self) -> None:
        self._waiting: dict[Pending, None] = {}
        self._unspooled: dict[Pending, None] = {}
        self._patient: dict[Pending, None] = {}
        self.stalled = False
        self.spooled = 0
        self.set_aside = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._waiting)

    @property
    def newest(self) -> Pending:
        """What was added last."""
        return next(reversed(self._waiting))

    @property
    def has_unspooled(self) -> bool:
        """Whether there is any that may go to the spool and isn't there."""
        return bool(self._unspooled)

    @property
    def patient_since(self) -> float | None:
        """Since when the oldest waits that wasn't overdue yet; None where there is none."""
        return next((one.since for one in self._patient), None)

    def add(self, record: Record, *, required: bool, undone_by: Callable[[], Record] | None = None) -> Pending:
        """A record comes last."""
        pending = Pending(record, asyncio.get_running_loop().time(), required, undone_by)
        self._waiting[pending] = self._patient[pending] = None
        if not required:
            self._unspooled[pending] = None
        return pending

    def release(self, pending: Pending) -> None:
        """Nobody waits for it any more who could be refused: it may go to the spool."""
        pending.required = False
        if pending.waits:
            self._unspooled[pending] = None

    def first(self, most: int) -> list[Pending]:
        """What comes next, so many at most."""
        return list(islice(self._waiting, most))

    def unspooled(self, most: int | None = None) -> list[Pending]:
        """What may go to the spool and isn't there, so many at most."""
        return list(islice(self._unspooled, most))

    def overdue(self, since: float) -> list[Pending]:
        """What has waited since then, or longer, each once."""
        found = list(takewhile(lambda one: one.since <= since, self._patient))
        for one in found:
            del self._patient[one]
        return found

    def note_spooled(self, group: Sequence[Pending]) -> None:
        """These are in the spool, and so durable."""
        for one in group:
            one.spooled = True
            self.spooled += one.waits
            self._unspooled.pop(one, None)
            one.tell(durable=True)

    def note_stored(self, group: Sequence[Pending]) -> list[Record]:
        """These are on record; gives what must follow, since some had been withdrawn while their commit was under way."""
        undone = [one.undone_by() for one in group if one.undone_by and not one.waits]
        for one in group:
            self._leave(one)
            one.stored = True
        for one in group:
            one.tell(durable=True)
        return undone

    def withdraw(self, pending: Pending) -> None:
        """It shall not be written any more, if that isn't under way."""
        self._leave(pending)
        pending.tell(durable=False)

    def sift(self, group: Sequence[Pending]) -> bool:
        """Leave out what has no canonical form and so could never be written; whether there was any.

        It would keep all others from being written.
        """
        return self.leave_out([one for one in group if not _can_be_written(one.record)])

    def leave_out(self, hopeless: Sequence[Pending]) -> bool:
        """These can never be written: an error in the log has them; whether any of them still waited."""
        waiting = [one for one in hopeless if one.waits]
        for one in waiting:
            self.withdraw(one)
            log.error("an audit record can't be written and is left out", record=ascii(dict(one.record.members)))
        self.set_aside += len(waiting)
        return bool(waiting)

    def _leave(self, pending: Pending) -> None:
        self.spooled -= pending.spooled and pending.waits
        pending.waits = False
        for queue in (self._waiting, self._unspooled, self._patient):
            queue.pop(pending, None)


def _can_be_written(record: Record) -> bool:
    try:
        canonical(record.members)
    except TypeError:
        return False
    return True
