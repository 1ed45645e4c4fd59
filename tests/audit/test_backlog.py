"""What waits to be written: each record is looked at once for each thing that befalls it, however much waits."""

from __future__ import annotations

import asyncio

from app.audit import Name
from app.audit.backlog import Backlog
from tests.records import administrative

RECORD = administrative(Name.CALLER_ENABLED, "test", "shop")
FAR = 1e12


async def test_what_is_overdue_is_told_once() -> None:
    """The oldest first, and not what is younger, is on record or was withdrawn."""
    backlog = Backlog()
    first, stored, withdrawn, younger = (backlog.add(RECORD, required=True) for _ in range(4))
    younger.since = FAR
    backlog.note_stored([stored])
    backlog.withdraw(withdrawn)
    found = backlog.overdue(asyncio.get_running_loop().time())

    assert found == [first]
    assert backlog.overdue(FAR - 1) == []
    assert backlog.patient_since == FAR
    assert list(backlog) == [first, younger]


async def test_what_may_go_to_the_spool_is_known_without_looking_at_the_others() -> None:
    """It is in a queue of its own until it is spooled, stored or withdrawn; what was required comes there when it is released."""
    backlog = Backlog()
    required, spooled, stored, withdrawn, left = (backlog.add(RECORD, required=one == 0) for one in range(5))
    backlog.note_spooled([spooled])
    backlog.note_stored([stored])
    backlog.withdraw(withdrawn)
    before = backlog.unspooled()
    backlog.release(required)
    backlog.release(withdrawn)

    assert before == [left]
    assert backlog.unspooled(1) == [left]
    assert backlog.unspooled() == [left, required]
    assert (backlog.has_unspooled, backlog.spooled, len(backlog)) == (True, 1, 3)
