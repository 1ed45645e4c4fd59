"""Recovery: what a process left without an outcome when it died is ended by another, which writes that in its own chain.

A call ends as its last send did, as far as that is on record; a send without an outcome gets `unknown`. Then the dead chain's end is sealed
by a checkpoint. It is done in the background, in groups, while calls are served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any

import orjson
import structlog

from app.audit.chain import Broken, Head, follow
from app.audit.endings import Carried, call_left, send_left
from app.audit.leases import HEARTBEAT_SECONDS, Claim, claim_next, end_other_leases
from app.audit.ledger import Ledger
from app.audit.own_chain import CHECKPOINT_RECORDS
from app.audit.records import Name, Record
from app.audit.sealed import sealed_head
from app.audit.seals import Trusted
from app.audit.storing import last_number, records_from
from app.audit.unfinished import OpenCall, Unfinished
from app.background import kept_running
from app.storage import Connection, DatabaseThread

__all__ = ["Recovery"]

PAGE_RECORDS = 2_000
GROUP_RECORDS = 500
MOST_OPENINGS = 100
MOST_NAMED = 10

log = structlog.get_logger(__name__)


class ClaimLost(Exception):
    """Another process has claimed the chain meanwhile, and goes on with it; or its own has."""


class Recovery:
    """Ends the chains of processes that died, at its start and then at every heartbeat.

    Args:
        thread: reads what they left. Not the ledger's own: that may take long, and no record of a living call waits for it.
        ledger: writes how it ended.
        settled: waits, before the first look, until what the dead left in the spool is in the database: that may be the outcomes.
        alone: no other process serves from this database, so that whose lease still lasts is dead nevertheless.
    """

    def __init__(self, thread: DatabaseThread, ledger: Ledger, settled: Callable[[], Awaitable[None]], *, alone: bool) -> None:
        self._thread = thread
        self._ledger = ledger
        self._settled = settled
        self._alone = alone

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Look for dead processes in the background, while the context lasts."""
        return kept_running(self._keep())

    async def recover(self) -> None:
        """End every chain whose process is dead and that nobody else has claimed.

        Raises:
            SQLAlchemyError: the database refused. What is done is done; the rest is as it was, and is taken up when the claim has run out.
        """
        if self._alone:
            await self._thread.run(lambda connection: end_other_leases(connection, self._ledger.chain))
            self._alone = False
        while claim := await self._thread.run(lambda connection: claim_next(connection, self._ledger.chain)):
            try:
                calls, sends = await _Ending(claim, self._thread, self._ledger).run()
            except ClaimLost:
                log.warning("another process ends this chain", chain=claim.chain)
            else:
                self._tell(claim.chain, calls, sends)

    def _tell(self, chain: str, calls: int, sends: int) -> None:
        closed = calls + sends > 0
        if chain == self._ledger.given_up:
            text = "what the last process left open in the spool is closed"
        elif closed:
            text = "a process had died; its open calls are closed"
        else:
            text = "a chain that its process had not closed is closed; no call was open in it"
        log.log(logging.WARNING if closed else logging.INFO, text, chain=chain, calls=calls, sends=sends)

    async def _keep(self) -> None:
        await self._settled()
        while True:
            try:
                await self.recover()
            except Exception:
                # The task's outermost edge. Serving goes on: what is open stays so until a later look.
                log.exception("what a dead process left can't be ended")
            await asyncio.sleep(HEARTBEAT_SECONDS)


class _Ending:
    """Ends one chain, claimed."""

    def __init__(self, claim: Claim, thread: DatabaseThread, ledger: Ledger) -> None:
        self._claim = claim
        self._claimed_at = time.monotonic()
        self._thread = thread
        self._ledger = ledger
        self._damaged = set[int]()

    async def run(self) -> tuple[int, int]:
        """Gives how many calls and how many sends it closed.

        Raises:
            ClaimLost: another process goes on with it.
        """
        # Before the search: what its process, if it lives after all, writes from now on must keep the chain from being closed.
        head = await self._thread.run(partial(_end_of, chain=self._claim.chain, trusted=self._ledger.trusted))
        unfinished, last = await self._search()
        open_calls = {call.number: call for call in unfinished.calls.values()}
        numbers, closed = sorted([*open_calls, *unfinished.sends.values()]), Counter[Name]()
        for start in range(0, len(numbers), GROUP_RECORDS):
            group = numbers[start : start + GROUP_RECORDS]
            records = await self._thread.run(partial(self._outcomes, numbers=group, open_calls=open_calls))
            await self._write(records, next(iter(numbers[start + GROUP_RECORDS :]), last + 1))
            closed.update(record.name for record in records)
        if self._damaged:
            numbers = sorted(self._damaged)[:MOST_NAMED]
            log.error("damaged records were passed over; `audit verify` tells more", chain=self._claim.chain, numbers=numbers)
        if not await self._ledger.seal_if(self._claim.close, head):
            raise ClaimLost
        return closed[Name.CALL_OUTCOME], closed[Name.SEND_OUTCOME]

    async def _search(self) -> tuple[Unfinished, int]:
        """What has no outcome, and the number of the last record that was looked at."""
        unfinished, last = Unfinished(), await self._thread.run(lambda connection: last_number(connection.execute))
        number = self._claim.open_since
        while number <= last:
            look = partial(self._look, unfinished=unfinished, first=number, last=last)
            number = await self._thread.run(look)
            if time.monotonic() - self._claimed_at >= HEARTBEAT_SECONDS:
                await self._write([], self._claim.open_since)
        return unfinished, last

    async def _write(self, records: list[Record], open_since: int) -> None:
        claim = await self._thread.run(partial(self._claim.renewed, open_since=open_since))
        if not await self._ledger.append_if(partial(claim.take, before=self._claim), records):
            raise ClaimLost
        self._claim, self._claimed_at = claim, time.monotonic()

    def _look(self, connection: Connection, *, unfinished: Unfinished, first: int, last: int) -> int:
        """See the next page of records, of all chains: another may have written the outcome. Gives the number after it."""
        query = "SELECT number, CAST(body AS BLOB) FROM audit_records WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
        page = connection.execute(query, (first, last, PAGE_RECORDS)).fetchall()
        for number, body in page:
            with self._passing_over(number):
                members = orjson.loads(body)
                unfinished.see(number, members, begins=members["chain"] == self._claim.chain)
        return page[-1][0] + 1 if page else last + 1

    def _outcomes(self, connection: Connection, *, numbers: list[int], open_calls: Mapping[int, OpenCall]) -> list[Record]:
        """The missing outcomes to these intents."""
        records = []
        for number in numbers:
            with self._passing_over(number):
                if call := open_calls.get(number):
                    records.append(self._call_outcome(connection, call))
                else:
                    records.append(send_left(_members(connection, number), self._claim.chain))
        return records

    def _call_outcome(self, connection: Connection, call: OpenCall) -> Record:
        carried = None
        if last := call.last:
            carried = Carried(_members(connection, last.intent), None if last.outcome is None else _members(connection, last.outcome))
        # What can't be read, and was written since, may be a send of it.
        uncertain = call.uncertain or max(self._damaged, default=0) > call.number
        intent = _members(connection, call.number)
        return call_left(intent, carried, attempts=call.attempts, uncertain=uncertain, process=self._claim.chain)

    @contextmanager
    def _passing_over(self, number: int) -> Iterator[None]:
        """Go on without a record of which nothing can be made: somebody changed it, and it mustn't hold up all others."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError):
            self._damaged.add(number)


def _members(connection: Connection, number: int) -> dict[str, Any]:
    """What a record says that was read before."""
    (body,) = connection.execute("SELECT CAST(body AS BLOB) FROM audit_records WHERE number = ?", (number,)).fetchone()
    members: dict[str, Any] = orjson.loads(body)
    return members


def _end_of(connection: Connection, *, chain: str, trusted: Trusted) -> Head | None:
    """Where a chain stands; None where its end mustn't be signed.

    That is where it doesn't follow from the last checkpoint, or isn't what another chain names; and where more of it is uncovered than a
    process leaves, which seals in the transaction of every thousandth record: then checkpoints are gone.
    """
    try:
        return _proven_end(connection, chain, trusted)
    except Broken as error:
        log.error("a dead process's audit chain was changed; its end stays unsealed", chain=chain, why=str(error))  # noqa: TRY400 - there is no more to know
        return None


def _proven_end(connection: Connection, chain: str, trusted: Trusted) -> Head:
    sealed = sealed_head(connection.execute, chain, trusted)
    head = follow(sealed, records_from(connection.execute, sealed))
    if head.seq - sealed.seq >= CHECKPOINT_RECORDS:
        message = f"record {sealed.seq + 1} and those after it should have had a checkpoint"
        raise Broken(message)
    _check_named(connection, sealed, head)
    return head


def _check_named(connection: Connection, sealed: Head, head: Head) -> None:
    """Compare the chain's end with what chains that were opened since name of it.

    Raises:
        Broken: they name another record, or one that is gone.
    """
    query = "SELECT CAST(body AS BLOB) FROM audit_records WHERE name = ? ORDER BY number DESC LIMIT ?"
    hashes = {seq: stored for seq, _, stored in records_from(connection.execute, sealed)}
    for (body,) in connection.execute(query, (Name.CHAIN_OPENED, MOST_OPENINGS)):
        for named in _heads_in(body):
            if named.chain == head.chain and named.seq > sealed.seq and hashes.get(named.seq) != named.hash:
                message = f"record {named.seq} isn't the one that another chain names"
                raise Broken(message)


def _heads_in(body: bytes) -> list[Head]:
    """The heads that a chain's opening names.

    Raises:
        Broken: it can't be read, so that nobody knows what it says of another chain's end.
    """
    try:
        return [Head(one["chain"], one["seq"], bytes.fromhex(one["hash"])) for one in orjson.loads(body)["heads"]]
    except (KeyError, TypeError, ValueError) as error:
        message = "a record that names where other chains stood can't be read"
        raise Broken(message) from error
