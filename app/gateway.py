"""The whole journey of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from app.callers import check_ids
from app.catalogue import check_request, read_request
from app.dispatch import LaneState, Settled, Ticket
from app.domain import Asked, Call, Caller, Linked, Operation, Parameter, TokenRef, new_id
from app.errors import AuditUnavailable, GatewayError, InternalError, RequestMalformed
from app.upstream import problem_of

__all__ = ["Answer", "Asked", "Gateway", "Journey"]

CALLER_GONE = "caller-gone"


@dataclass(frozen=True, slots=True)
class Journey:
    """How far a call came: the token it went with, how often it was sent, and where its time went, in seconds."""

    token: TokenRef
    attempts: int = 0
    queued: float | None = None
    upstream: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a call: the IDs of the linked orders, or a problem. `journey` is None where no token had been chosen.

    `uncertain`: Flxpoint may have done the work, or part of it, though no answer says so.
    """

    result: tuple[int, ...] | GatewayError
    journey: Journey | None
    uncertain: bool = False


class Vault(Protocol):
    """What the gateway needs of the tokens."""

    def choose(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef: ...


class Audit(Protocol):
    """What the gateway needs of the record."""

    @property
    def held_since(self) -> Callable[[float], bool]: ...

    async def intent(self, call: Call, *, at_once: bool) -> None: ...

    async def ended(self, call: Call, end: Linked | GatewayError, *, spent: Settled) -> None: ...

    def abandoned(self, call: Call, *, code: str, under_way: bool, send_id: str | None = None, attempts: int = 0) -> None: ...

    async def refused(
        self, asked: Asked, error: GatewayError, *, read: tuple[Parameter, tuple[int, ...]] | None, token: str | None
    ) -> None: ...

    def count_refusal(self, *, address: str | None, caller: str | None, code: str) -> None: ...


class Dispatch(Protocol):
    """What the gateway needs of the lanes."""

    def check(self, call: Call) -> bool: ...

    def enter(self, call: Call) -> Ticket: ...

    def is_waiting(self, call_id: str) -> bool: ...

    def state(self, token_id: str) -> LaneState | None: ...


class Gateway:
    """Takes a known caller's request and answers it, with everything that happens on record."""

    def __init__(self, vault: Vault, audit: Audit, dispatch: Dispatch, clock: Callable[[], float]) -> None:
        self._vault = vault
        self._audit = audit
        self._dispatch = dispatch
        self._clock = clock
        self._open = 0
        self._coming: set[str] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def handle(self, asked: Asked) -> Answer:
        """Check the request, put it on record, wait for its turn, send it, put the end on record, answer.

        If the task is cancelled (the caller hung up) a waiting call leaves its queue; a send under way goes on and is recorded.
        """
        self._open += 1
        self._none_open.clear()
        try:
            return await self._handle(asked)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def admit(self, asked: Asked) -> Call | Answer:
        """The call that a request would be, which nobody takes in yet; or, on record, the refusal that it would get when it comes."""
        call: Call | None = None
        try:
            call = self._check(asked)
            self._dispatch.check(call)
        except GatewayError as error:
            return await self._refuse(asked, call, error)
        return call

    async def refuse(self, asked: Asked, error: GatewayError) -> Answer:
        """Refuse a request for a reason that isn't the gateway's own, on record."""
        return await self._refuse(asked, None, error)

    def is_waiting(self, call_id: str) -> bool:
        """Whether nothing of a call was sent, nor will be if it leaves now: it is put on record, or waits in its queue."""
        return call_id in self._coming or self._dispatch.is_waiting(call_id)

    async def finish(self) -> None:
        """Wait until every call that came in has its end on record."""
        await self._none_open.wait()

    def lane_state(self, token: TokenRef) -> LaneState | None:
        """The quota of a token's lane as of now; None where the token is gone."""
        return self._dispatch.state(token.id)

    async def _handle(self, asked: Asked) -> Answer:
        call: Call | None = None
        try:
            call = self._check(asked)
            at_once = self._dispatch.check(call)
            await self._recorded(call, at_once=at_once and asked.on_record is None)
            if asked.on_record:
                asked.on_record()
        except asyncio.CancelledError:
            if call:
                self._abandon(call, None, code=CALLER_GONE)
            raise
        except GatewayError as error:
            return await self._refuse(asked, call, error)
        return await self._carry(call)

    def _check(self, asked: Asked) -> Call:
        parameter, ids = check_request(asked.operation, asked.query, has_body=asked.has_body)
        check_ids(asked.caller, parameter, ids)
        if len(asked.token_names) > 1:
            detail = "the header Gateway-Token may stand once"
            raise RequestMalformed(detail)
        return Call(
            id=asked.call_id or new_id(),
            request_id=asked.request_id,
            caller=asked.caller,
            operation=asked.operation,
            parameter=parameter,
            ids=ids,
            token=self._vault.choose(asked.caller, asked.operation, next(iter(asked.token_names), None)),
            arrived=asked.arrived,
            deadline=asked.arrived + asked.wait,
            address=asked.address,
            origin=asked.origin,
            trace_id=asked.trace_id,
            priority=asked.priority,
            of_job=asked.of_job,
            wanted=partial(self._is_wanted, asked),
        )

    def _is_wanted(self, asked: Asked) -> bool:
        """Whether a call shall be sent still: who asked wants it, and nobody has ended it on record, as is done for a dead process."""
        return asked.wanted() and self._audit.held_since(asked.arrived)

    async def _recorded(self, call: Call, *, at_once: bool) -> None:
        self._coming.add(call.id)
        try:
            await self._audit.intent(call, at_once=at_once)
        finally:
            self._coming.discard(call.id)

    async def _refuse(self, asked: Asked, call: Call | None, error: GatewayError) -> Answer:
        journey = Journey(call.token) if call else None
        if isinstance(error, AuditUnavailable):
            # The record has just failed to take the call; it isn't asked, and waited for, a second time.
            self._audit.count_refusal(address=asked.address, caller=asked.caller.name, code=error.code)
            return Answer(error, journey)
        try:
            read = (call.parameter, call.ids) if call else read_request(asked.operation, asked.query)
            await self._audit.refused(asked, error, read=read, token=call.token.name if call else None)
        except AuditUnavailable as unrecorded:
            return Answer(unrecorded, journey)
        return Answer(error, journey)

    async def _carry(self, call: Call) -> Answer:
        ticket: Ticket | None = None
        try:
            ticket = self._dispatch.enter(call)
            settled = await ticket.settled()
            end = _end_of(settled)
        except GatewayError as error:
            end = error
            settled = Settled(error, None, 0, self._clock() - call.arrived, None, uncertain=False)
        except asyncio.CancelledError:
            self._abandon(call, ticket, code=CALLER_GONE)
            raise
        except Exception:
            # A defect. The call was taken in, so it has an end on record.
            self._abandon(call, ticket, code=InternalError.code)
            raise
        return await self._conclude(call, settled, end)

    def _abandon(self, call: Call, ticket: Ticket | None, *, code: str) -> None:
        if ticket:
            self._audit.abandoned(call, code=code, under_way=ticket.was_sent, send_id=ticket.send_id, attempts=ticket.attempts)
        else:
            self._audit.abandoned(call, code=code, under_way=False)

    async def _conclude(self, call: Call, settled: Settled, end: Linked | GatewayError) -> Answer:
        await self._audit.ended(call, end, spent=settled)
        journey = Journey(call.token, settled.attempts, settled.queued, settled.upstream)
        return Answer(end if isinstance(end, GatewayError) else end.order_ids, journey, uncertain=settled.uncertain or end.uncertain)


def _end_of(settled: Settled) -> Linked | GatewayError:
    return settled.result if isinstance(settled.result, Linked | GatewayError) else problem_of(settled.result)
