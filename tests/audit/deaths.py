"""Processes that die, for tests of what another makes of that: a ledger that is simply left is what `kill -9` leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.ledger import Ledger, Listener
from app.audit.records import Record, call_intent, call_outcome, send_intent, send_outcome
from app.audit.recovery import Recovery
from app.audit.seals import Signer
from app.domain import Call, Linked, Outcome, Send
from app.storage import DatabaseThread
from tests.storage.database import by_hand

SIGNER = Signer(bytes(range(32)))
LONG_AGO = "2020-01-01T00:00:00.000000+00:00"


async def nothing_spooled() -> None:
    """Nothing is in the spool."""


@dataclass
class Deaths:
    """A database, and the processes that serve from it."""

    engine: AsyncEngine
    threads: list[DatabaseThread] = field(default_factory=list)

    def ledger(self, *listeners: Listener) -> Ledger:
        """The ledger of another process."""
        return Ledger(self._thread(), SIGNER, listeners)

    def recovery(self, ledger: Ledger, *, alone: bool = True, settled: Callable[[], Awaitable[None]] = nothing_spooled) -> Recovery:
        """What ends, for that process, the chains of the dead."""
        return Recovery(self._thread(), ledger, settled, alone=alone)

    async def died(self, *records: Record) -> str:
        """A process wrote these and died; its chain."""
        ledger = self.ledger()
        await ledger.append(records)
        return ledger.chain

    async def recovered(self) -> str:
        """A process started, alone, and ended what the dead left; its chain."""
        ledger = self.ledger()
        await self.recovery(ledger).recover()
        return ledger.chain

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """What a statement gives, on a connection of its own."""
        with by_hand(self.engine) as hand:
            return list(hand.execute(statement, parameters))

    def run_out(self, chain: str) -> None:
        """Its lease has run out."""
        self.sql("UPDATE audit_chains SET lease_until = ? WHERE id = ?", LONG_AGO, chain)

    def records(self, name: str | None = None, chain: str | None = None) -> list[dict[str, Any]]:
        """What is on record, in the order in which it was written; only those of a name or a chain where one is given."""
        bodies = [json.loads(body) for (body,) in self.sql("SELECT body FROM audit_records ORDER BY number")]
        return [one for one in bodies if name in {None, one["name"]} and chain in {None, one["chain"]}]

    def outcomes(self) -> Counter[str]:
        """How many outcomes each call has."""
        return Counter(one["call_id"] for one in self.records("call:outcome"))

    def chain(self, chain: str) -> dict[str, Any]:
        """A chain's row."""
        columns = ("lease_until", "open_since", "closed_at")
        return dict(zip(columns, *self.sql(f"SELECT {', '.join(columns)} FROM audit_chains WHERE id = ?", chain), strict=True))  # noqa: S608

    def sealed(self, chain: str) -> bool:
        """Whether a checkpoint covers a chain's last record."""
        last = "SELECT max(seq) FROM {} WHERE chain = ?"
        return self.sql(last.format("audit_records"), chain) == self.sql(last.format("audit_checkpoints"), chain)

    def _thread(self) -> DatabaseThread:
        self.threads.append(DatabaseThread(self.engine))
        return self.threads[-1]


@asynccontextmanager
async def on(engine: AsyncEngine) -> AsyncIterator[Deaths]:
    """Processes on a migrated database."""
    deaths = Deaths(engine)
    yield deaths
    for thread in deaths.threads:
        await thread.aclose()


def make_send(*calls: Call, attempt: int = 1) -> Send:
    """A send that carries these calls."""
    ids = tuple(sorted({one for call in calls for one in call.ids}))
    return Send(attempt=attempt, lane="lane-1", ids=ids, calls=calls, released=0.0)


def taken(*calls: Call) -> list[Record]:
    """These calls were taken in."""
    return [call_intent(call) for call in calls]


def announced(*sends: Send) -> list[Record]:
    """These sends were about to be written."""
    return [send_intent(send) for send in sends]


def answered(*sends: Send) -> list[Record]:
    """These sends were answered."""
    return [send_outcome(send, Linked(send.ids), written=True) for send in sends]


def came(send: Send, outcome: Outcome | None) -> list[Record]:
    """The send was announced, and this came of it; None: it was taken back before it left."""
    return [*announced(send), send_outcome(send, outcome, written=outcome is not None)]


def ended(*calls: Call) -> list[Record]:
    """These calls ended well."""
    return [call_outcome(call, code="ok", linked=Linked(call.ids)) for call in calls]


def places(records: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Whose call each is, and its end."""
    return [(one["call_id"], one["code"]) for one in records]
