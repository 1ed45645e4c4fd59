"""The whole journey of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.catalogue import check_request
from app.dispatch import LaneState, Send, Sender, Settled
from app.domain import Call, Caller, Linked, Operation, Outcome, Stamps, TokenRef, TokenValue, new_id
from app.errors import AuditUnavailable, GatewayError, RequestMalformed, TokenUnavailable
from app.upstream import problem_of

__all__ = ["Answer", "Asked", "Gateway", "Journey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A known caller's request for an operation, as it came in, before any check.

    `token_names` are the values of the header `Gateway-Token`, which may stand once. `wait` is in seconds, from `arrived`, which is on the
    process's monotonic clock.
    """

    request_id: str
    caller: Caller
    operation: Operation
    query: bytes
    has_body: bool
    token_names: tuple[str, ...]
    wait: float
    arrived: float
    address: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Journey:
    """How far a call came: the token it went with, how often it was sent, and where its time went, in seconds."""

    token: TokenRef
    attempts: int = 0
    queued: float | None = None
    upstream: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a call: the IDs of the linked orders, or a problem. `journey` is None where no token had been chosen."""

    result: tuple[int, ...] | GatewayError
    journey: Journey | None


class Vault(Protocol):
    """What the gateway needs of the tokens."""

    def choose(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef: ...

    def open(self, token_id: str) -> tuple[TokenRef, TokenValue]: ...


class Callers(Protocol):
    """What the gateway needs of the callers."""

    def require(self, caller: Caller, token_id: str, operation: str) -> None: ...


class Audit(Protocol):
    """What the gateway needs of the record."""

    async def intent(self, call: Call, *, at_once: bool) -> None: ...

    async def sending(self, call: Call, send_id: str, attempt: int) -> None: ...

    def sent(self, call: Call, send_id: str, outcome: Outcome | None, *, written: bool) -> None: ...

    async def succeeded(self, call: Call, linked: Linked, *, attempts: int, queued: float, upstream: float) -> None: ...

    async def failed(
        self, call: Call, error: GatewayError, *, attempts: int = 0, queued: float | None = None, upstream: float | None = None
    ) -> None: ...

    def abandoned(self, call: Call, *, under_way: bool) -> None: ...

    async def refused(  # noqa: PLR0913 - a record's members
        self,
        *,
        request_id: str,
        caller: Caller,
        operation: str,
        error: GatewayError,
        address: str | None,
        origin: str | None,
        token: str | None,
    ) -> None: ...

    def count_refusal(self, *, address: str | None, caller: str | None, code: str) -> None: ...


class Dispatch(Protocol):
    """What the gateway needs of the lanes."""

    def check(self, call: Call) -> bool: ...

    async def submit(self, call: Call, sender: Sender) -> Settled: ...

    def state(self, token_id: str) -> LaneState | None: ...


class Upstream(Protocol):
    """What the gateway needs of the upstream."""

    async def send(self, call: Call, value: TokenValue, stamps: Stamps) -> Outcome: ...


class Gateway:
    """Takes a known caller's request and answers it, with everything that happens on record."""

    def __init__(  # noqa: PLR0913, PLR0917 - the rooms that a call walks through, and the clock
        self, vault: Vault, callers: Callers, audit: Audit, dispatch: Dispatch, upstream: Upstream, clock: Callable[[], float]
    ) -> None:
        self._vault = vault
        self._callers = callers
        self._audit = audit
        self._dispatch = dispatch
        self._upstream = upstream
        self._clock = clock
        self._open = 0
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
            await self._audit.intent(call, at_once=at_once)
        except asyncio.CancelledError:
            if call:
                self._audit.abandoned(call, under_way=False)
            raise
        except GatewayError as error:
            return await self._refuse(asked, call, error)
        return await self._carry(call)

    def _check(self, asked: Asked) -> Call:
        parameter, ids = check_request(asked.operation, asked.query, has_body=asked.has_body)
        if len(asked.token_names) > 1:
            detail = "the header Gateway-Token may stand once"
            raise RequestMalformed(detail)
        return Call(
            id=new_id(),
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
        )

    async def _refuse(self, asked: Asked, call: Call | None, error: GatewayError) -> Answer:
        journey = Journey(call.token) if call else None
        if isinstance(error, AuditUnavailable):
            # The record has just failed to take the call; it isn't asked, and waited for, a second time.
            self._audit.count_refusal(address=asked.address, caller=asked.caller.name, code=error.code)
            return Answer(error, journey)
        try:
            await self._audit.refused(
                request_id=asked.request_id,
                caller=asked.caller,
                operation=asked.operation.id,
                error=error,
                address=asked.address,
                origin=asked.origin,
                token=call.token.name if call else None,
            )
        except AuditUnavailable as unrecorded:
            return Answer(unrecorded, journey)
        return Answer(error, journey)

    async def _carry(self, call: Call) -> Answer:
        passage = _Passage(call, self._vault, self._callers, self._audit, self._upstream)
        try:
            settled = await self._dispatch.submit(call, passage)
        except asyncio.CancelledError:
            self._audit.abandoned(call, under_way=passage.released is not None)
            raise
        except GatewayError as error:
            queued = (self._clock() if passage.released is None else passage.released) - call.arrived
            await self._audit.failed(call, error, attempts=passage.attempts, queued=queued)
            return Answer(error, Journey(call.token, passage.attempts, queued))
        return await self._conclude(call, settled)

    async def _conclude(self, call: Call, settled: Settled) -> Answer:
        attempts, queued, upstream = settled.attempts, settled.queued, settled.upstream
        journey = Journey(call.token, attempts, queued, upstream)
        if isinstance(settled.outcome, Linked):
            await self._audit.succeeded(call, settled.outcome, attempts=attempts, queued=queued, upstream=upstream)
            return Answer(settled.outcome.order_ids, journey)
        problem = problem_of(settled.outcome)
        await self._audit.failed(call, problem, attempts=attempts, queued=queued, upstream=upstream)
        return Answer(problem, journey)


class _Passage:
    """One call on its way out: each send is put on record, made with the token's value of that moment, and put on record again.

    `attempts` counts the sends that were made; `released` is when the last one's turn came, on the monotonic clock.
    """

    def __init__(self, call: Call, vault: Vault, callers: Callers, audit: Audit, upstream: Upstream) -> None:
        self._call = call
        self._vault = vault
        self._callers = callers
        self._audit = audit
        self._upstream = upstream
        self.attempts = 0
        self.released: float | None = None

    async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
        """Carry one send out.

        Raises:
            AuditUnavailable, TokenUnavailable, CredentialsInvalid, TokenNotGranted: it was not sent.
        """
        self.released = send.released
        await self._audit.sending(self._call, send.id, send.attempt)
        try:
            value = self._value(send)
        except GatewayError:
            self._audit.sent(self._call, send.id, None, written=False)
            raise
        self.attempts = send.attempt
        outcome = await self._upstream.send(self._call, value, stamps)
        self._audit.sent(self._call, send.id, outcome, written=send.written is not None)
        return outcome

    def _value(self, send: Send) -> TokenValue:
        """The token's value, if what let the call in still holds, and if it is the value whose turn this is."""
        call = self._call
        self._callers.require(call.caller, call.token.id, call.operation.id)
        token, value = self._vault.open(call.token.id)
        if token.lane != send.lane:
            detail = "the token was rotated at the moment of the send; nothing was sent"
            raise TokenUnavailable(detail, retry_after=1)
        return value
