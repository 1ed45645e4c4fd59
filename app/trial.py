"""An operator's test of a token: probes in the token's own turn, on record, and what their answers say of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.audit import AuditLog
from app.catalogue import Deduction
from app.dispatch import Dispatcher
from app.domain import NO_PARAMETER, Actor, Call, Caller, Operation, Outcome, TokenKind, TokenRef, TokenRejected, new_id
from app.errors import GatewayError, NotFound

__all__ = ["Probed", "Tested", "Trial"]

WAIT_SECONDS = 20.0
SUCCESSES = range(200, 300)
NOT_KNOWN = 401


@dataclass(frozen=True, slots=True)
class Probed:
    """One probe: what came back (the outcome's name, and the status where there was an answer), and how many seconds after its turn."""

    operation: str
    result: str
    status: int | None
    round_trip: float | None


@dataclass(frozen=True, slots=True)
class Tested:
    """A test's end. `kind` is the one on file; `seems` the one that fits the answers, if a single one does; `agrees` None: can't be told.

    `accepted`: Flxpoint took the token for something. `verdict` says it in words.
    """

    token: str
    kind: TokenKind
    seems: TokenKind | None
    agrees: bool | None
    accepted: bool
    verdict: str
    probes: tuple[Probed, ...]


class Tokens(Protocol):
    """What is needed of the tokens."""

    @property
    def tokens(self) -> list[TokenRef]: ...


class Trial:
    """Tests tokens. A probe takes a turn in the token's lane like any send, also while a breaker is open, and moves none.

    A breaker is of one operation: that Flxpoint answers `GET /account` doesn't say that it will link orders. So `token resume` stays the
    operator's own decision.
    """

    def __init__(
        self, tokens: Tokens, dispatcher: Dispatcher, audit: AuditLog, probes: Sequence[Operation], clock: Callable[[], float]
    ) -> None:
        self._tokens = tokens
        self._dispatcher = dispatcher
        self._audit = audit
        self._probes = probes
        self._clock = clock

    async def run(self, name: str, *, by: Actor, request_id: str) -> Tested:
        """Ask probes until one kind fits their answers, no more would tell anything, or one has no clear answer.

        Args:
            name: the token's name.
            by: who tests, for the record.
            request_id: of the request that asked for it.

        Raises:
            NotFound: there is no such token, or the catalogue has no probe.
            GatewayError: a probe couldn't be sent, or be put on record.
        """
        token = self._named(name)
        deduction, probed, deadline = Deduction(token.kind, self._probes), list[Probed](), self._clock() + WAIT_SECONDS
        clear = True
        while clear and (probe := deduction.next()):
            try:
                outcome, seconds = await self._send(token, probe, by=by.by, request_id=request_id, deadline=deadline)
            except GatewayError as error:
                await self._audit.tested(name, by=by, probes=_texts(probed), seems=None, code=error.code)
                raise
            probed.append(_probed(probe, outcome, seconds))
            clear = _is_clear(outcome)
            if clear:
                deduction.learn(probe, accepted=not isinstance(outcome, TokenRejected))
        tested = _tested(token, deduction, tuple(probed), clear=clear)
        await self._audit.tested(name, by=by, probes=_texts(probed), seems=tested.seems, code="ok")
        return tested

    def _named(self, name: str) -> TokenRef:
        token = next((one for one in self._tokens.tokens if one.name == name), None)
        if token is None:
            message = "there is no token of that name"
            raise NotFound(message)
        if not self._probes:
            message = "the catalogue names no operation to test tokens with (x-gateway-probe)"
            raise NotFound(message)
        return token

    async def _send(self, token: TokenRef, probe: Operation, *, by: str, request_id: str, deadline: float) -> tuple[Outcome, float | None]:
        call = Call(
            id=new_id(),
            request_id=request_id,
            caller=Caller(by, by, ""),
            operation=probe,
            parameter=NO_PARAMETER,
            ids=(),
            token=token,
            arrived=self._clock(),
            deadline=deadline,
            test=True,
        )
        settled = await self._dispatcher.enter(call).settled()
        if isinstance(settled.result, GatewayError):
            raise settled.result
        return settled.result, settled.upstream


def _is_clear(outcome: Outcome) -> bool:
    """Whether it tells if Flxpoint takes the token. Only the status matters: an answer too large to be read was an answer."""
    return isinstance(outcome, TokenRejected) or outcome.status in SUCCESSES


def _probed(probe: Operation, outcome: Outcome, seconds: float | None) -> Probed:
    return Probed(probe.id, type(outcome).__name__.lower(), outcome.status, None if seconds is None else round(seconds, 4))


def _texts(probed: Sequence[Probed]) -> list[str]:
    return [f"{one.operation}: {one.status or one.result}" for one in probed]


def _tested(token: TokenRef, deduction: Deduction, probed: tuple[Probed, ...], *, clear: bool) -> Tested:
    seems, agrees = (deduction.seems, deduction.agrees) if clear else (None, None)
    verdict = _verdict(token.kind, deduction, probed) if clear else "Flxpoint gave no clear answer; nothing can be said of the token"
    return Tested(token.name, token.kind, seems, agrees, deduction.accepted, verdict, probed)


def _verdict(on_file: TokenKind, deduction: Deduction, probed: tuple[Probed, ...]) -> str:
    if not deduction.accepted:
        if all(one.status == NOT_KNOWN for one in probed):
            return "Flxpoint doesn't accept it at all (401): most likely it was withdrawn or mistyped"
        return "Flxpoint refused it each time; a 403 may mean that it is of another kind, or that it may not do this"
    if deduction.agrees:
        return "Flxpoint takes it for what its kind on file allows, and for nothing else that was tried"
    fits = " or ".join(sorted(deduction.kinds))
    if deduction.agrees is None:
        return f"Flxpoint takes it; by its answers it is of kind {fits}"
    return f"Flxpoint takes it, but not as of kind {on_file}: by its answers it is of kind {fits}, unless it may not do what was refused"
