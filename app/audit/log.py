"""The audit log as the gateway uses it: one method for each thing that happens to a call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from app.audit.records import (
    JobAsked,
    Record,
    TokenResumed,
    TokenTested,
    call_intent,
    call_outcome,
    call_refused,
    changed_by,
    job_accepted,
    job_cancelled,
    refusals_counted,
    send_intent,
    send_outcome,
    ticket_issued,
    token_echoed,
)
from app.audit.writer import GroupWriter
from app.domain import Actor, Asked, Call, Caller, Linked, Outcome, PageTicket, Parameter, Send
from app.errors import AuditUnavailable, GatewayError

__all__ = ["AuditLog"]

COUNTING_SECONDS = 1.0
MOST_COUNTERS = 1_000
MOST_STRANGERS = 50
ELSEWHERE = "other"


class Spent(Protocol):
    """What a call took: what came of it, how often it was sent, with which send last, and where its time went, in seconds."""

    @property
    def result(self) -> Outcome | GatewayError: ...

    @property
    def send_id(self) -> str | None: ...

    @property
    def attempts(self) -> int: ...

    @property
    def queued(self) -> float: ...

    @property
    def upstream(self) -> float | None: ...

    @property
    def uncertain(self) -> bool: ...


class AuditLog:
    """Puts on record what happens to calls.

    What must be on record before it happens (`intent`, `sending`, `refused`) raises `AuditUnavailable` where it can't be written;
    what has happened already (`sent`, `outcome`) is kept until it can.

    Args:
        writer: writes the records.
        held_since: whether no other process can have taken this one for dead since a moment (monotonic, in seconds).
    """

    def __init__(self, writer: GroupWriter, held_since: Callable[[float], bool] = lambda _: True) -> None:
        self._writer = writer
        self.held_since = held_since
        self._refusals: Counter[tuple[str, str | None, str]] = Counter()
        self._strangers = 0
        self._flush: asyncio.TimerHandle | None = None

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._writer.healthy

    async def intent(self, call: Call, *, at_once: bool) -> None:
        """The call was taken in.

        Args:
            call: the call.
            at_once: its send comes next, and `sending` will wait for both records; then this doesn't wait.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        if at_once and self._writer.accepting:
            self._writer.put(call_intent(call))
        else:
            refused = partial(call_outcome, call, code=AuditUnavailable.code)
            await self._writer.write(call_intent(call), required=True, undone_by=refused)

    async def sending(self, send: Send) -> None:
        """The send is about to be written to the upstream.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        await self._writer.write(send_intent(send), required=True, undone_by=partial(send_outcome, send, None, written=False))

    def sent(self, send: Send, outcome: Outcome | None, *, written: bool) -> None:
        """A send ended; `outcome` is None where it didn't go out after all."""
        self._writer.put(send_outcome(send, outcome, written=written))

    def echoed(self, send: Send, finds: int) -> None:
        """The upstream's answer to a send held the token's value so many times; it was taken out."""
        self._writer.put(token_echoed(send, finds))

    async def ended(self, call: Call, end: Linked | GatewayError, *, spent: Spent) -> None:
        """The call ended. Waits until that is on disk, or two seconds have passed.

        A call that failed since the record couldn't be kept doesn't wait a second time.
        """
        code, linked = (end.code, None) if isinstance(end, GatewayError) else ("ok", end)
        record = call_outcome(
            call,
            code=code,
            linked=linked,
            upstream_status=None if isinstance(spent.result, GatewayError) else spent.result.status,
            send_id=spent.send_id,
            attempts=spent.attempts,
            queued=spent.queued,
            upstream=spent.upstream,
            uncertain=end.uncertain or spent.uncertain,
        )
        if isinstance(end, AuditUnavailable):
            self._writer.put(record)
        else:
            await self._writer.write(record, required=False)

    def abandoned(self, call: Call, *, code: str, under_way: bool, send_id: str | None = None, attempts: int = 0) -> None:
        """Nobody waits for the call's end any more; `under_way` tells whether the upstream may have its work to do, or done."""
        self._writer.put(call_outcome(call, code=code, send_id=send_id, attempts=attempts, uncertain=under_way))

    async def refused(
        self, asked: Asked, error: GatewayError, *, read: tuple[Parameter, tuple[int, ...]] | None, token: str | None
    ) -> None:
        """A known caller's call was refused here.

        Args:
            asked: the request.
            error: the refusal.
            read: the parameter and the IDs, where the request could be read that far.
            token: the name of the token, where one had been chosen.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        await self._writer.write(call_refused(asked, error, read=read, token=token), required=True)

    def count_refusal(self, *, address: str | None, caller: str | None, code: str) -> None:
        """A request was refused before it became a call.

        Such are kept as sums, of one second each and bounded in number, those of strangers more than callers', so that nobody can fill the
        disk. Beyond the bound their addresses are not told apart. While the store is away they are summed up until it is back, so that
        nobody can fill the memory and the spool either.
        """
        key = (address or "unknown", caller, code)
        if key not in self._refusals:
            if len(self._refusals) >= MOST_COUNTERS or (caller is None and self._strangers >= MOST_STRANGERS):
                key = (ELSEWHERE, None, code)
            self._strangers += caller is None
        self._refusals[key] += 1
        if self._flush is None:
            self._flush_later()

    async def resumed(self, token: str, operations: list[str], *, by: Actor) -> None:
        """The breakers of a token are about to be closed; `operations` are those that it holds back.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        record = TokenResumed(**changed_by(by), subject=token, operations=operations).record()
        await self._announce(record, "this can't be put on record, so nothing was changed")

    async def ticket_issued(
        self, ticket: PageTicket, *, request_id: str, trace_id: str | None, caller: Caller, address: str | None
    ) -> None:
        """A ticket is about to be given out.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        record = ticket_issued(ticket, request_id=request_id, trace_id=trace_id, caller=caller, address=address)
        await self._announce(record, "the ticket can't be put on record, so it wasn't given out")

    async def job_accepted(self, asked: JobAsked) -> None:
        """A job is about to be taken in.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        await self._announce(job_accepted(asked), "the job can't be put on record, so it wasn't taken in")

    async def job_cancelled(self, job_id: str, *, caller: str, by: Actor) -> None:
        """Nothing more of a job is about to be sent; `caller` is the name of who asked for it.

        Raises:
            AuditUnavailable: it isn't on disk.
        """
        await self._announce(job_cancelled(job_id, caller=caller, by=by), "this can't be put on record, so the job goes on")

    async def tested(self, token: str, *, by: Actor, probes: list[str], seems: str | None, code: str) -> None:
        """A token was tested; its sends are on record themselves.

        Args:
            token: the token's name.
            by: who did it, with which request.
            probes: what was asked and answered, in words.
            seems: the kind that the token seems to be of, if the answers tell.
            code: `ok`, or a problem's.
        """
        tested = TokenTested(**changed_by(by), subject=token, token=token, probes=probes, seems=seems, code=code)
        await self._writer.write(tested.record(), required=False)

    async def settled(self) -> None:
        """Wait until everything that was given so far is on disk."""
        await self._writer.settled()

    async def _announce(self, record: Record, refusal: str) -> None:
        try:
            await self._writer.write(record, required=True)
        except AuditUnavailable as error:
            raise AuditUnavailable(refusal, retry_after=error.retry_after) from None

    def flush(self) -> None:
        """Have the sums written now, or spooled."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        for (address, caller, code), count in self._refusals.items():
            self._writer.put(refusals_counted(address=address, caller=caller, code=code, count=count))
        self._refusals.clear()
        self._strangers = 0

    def _flush_later(self) -> None:
        self._flush = asyncio.get_running_loop().call_later(COUNTING_SECONDS, self._flush_or_wait)

    def _flush_or_wait(self) -> None:
        if self._writer.accepting:
            self.flush()
        else:
            self._flush_later()
