"""Carrying a send out: on record before, made with the token's value of that moment, on record after."""

from __future__ import annotations

from typing import Protocol

from app.domain import Call, Caller, Operation, Outcome, Send, Stamps, TokenRef, TokenValue, TurnLost
from app.errors import DeadlineExceeded, GatewayError

__all__ = ["Carrier"]


class Vault(Protocol):
    """What is needed of the tokens."""

    def open(self, token_id: str) -> tuple[TokenRef, TokenValue]: ...

    def still_takes(self, token_id: str, operation: Operation) -> None: ...


class Callers(Protocol):
    """What is needed of the callers."""

    def require(self, caller: Caller, token_id: str, operation: str, address: str | None) -> None: ...


class Audit(Protocol):
    """What is needed of the record."""

    async def sending(self, send: Send) -> None: ...

    def sent(self, send: Send, outcome: Outcome | None, *, written: bool) -> None: ...

    def echoed(self, send: Send, finds: int) -> None: ...


class Upstream(Protocol):
    """What is needed of the upstream."""

    async def send(self, send: Send, value: TokenValue, stamps: Stamps) -> Outcome: ...


class Carrier:
    """Takes a send from its turn to its end."""

    def __init__(self, vault: Vault, callers: Callers, audit: Audit, upstream: Upstream) -> None:
        self._vault = vault
        self._callers = callers
        self._audit = audit
        self._upstream = upstream

    def refusal(self, call: Call) -> GatewayError | None:
        """Why a call that was let in may not be sent any more: what let it in, or its token's kind, changed, or it is given up."""
        if not call.wanted():
            return _given_up()
        if call.test:
            return None
        try:
            self._callers.require(call.caller, call.token.id, call.operation.id, call.address)
            self._vault.still_takes(call.token.id, call.operation)
        except GatewayError as error:
            return error
        return None

    async def __call__(self, send: Send, stamps: Stamps) -> Outcome:
        """Carry one send out.

        Raises:
            AuditUnavailable, TokenUnavailable, DeadlineExceeded, TurnLost: it was not sent.
        """
        await self._audit.sending(send)
        try:
            _require_wanted(send)
            outcome = await self._upstream.send(send, self._value(send), stamps)
        except BaseException:
            # Refused, its turn lost, cancelled, or a defect: a send that was announced has an end on record.
            self._audit.sent(send, None, written=stamps.was_written)
            raise
        self._audit.sent(send, outcome, written=stamps.was_written)
        if stamps.echoes:
            self._audit.echoed(send, stamps.echoes)
        return outcome

    def _value(self, send: Send) -> TokenValue:
        """The token's value, if it is still the one whose turn this is."""
        token, value = self._vault.open(send.token.id)
        if token.lane != send.lane:
            raise TurnLost
        return value


def _require_wanted(send: Send) -> None:
    """Make sure, right before the write, that somebody still wants the send: the process may have been held up since its turn came."""
    if not any(call.wanted() for call in send.calls):
        raise _given_up()


def _given_up() -> DeadlineExceeded:
    return DeadlineExceeded("the call was given up before its turn came; nothing was sent")
