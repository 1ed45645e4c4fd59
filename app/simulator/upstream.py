"""The journey of an upstream request through the simulator, as pure ASGI."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.simulator.answers import Answer, message
from app.simulator.exchange import Exchange
from app.simulator.faults import Close, Fault, GarbageHttp, Hang, Latency, Oversize, ResetAfter, SlowBody
from app.simulator.operations import OPERATIONS, UpstreamRequest, perform
from app.simulator.simulator import Simulator
from app.simulator.standin import TOO_MANY_REQUESTS, stand_in
from app.simulator.tokens import SimulatedToken

CONTROL: Final = "/_simulator/"
"""The simulator's own paths begin so; all others are the upstream's."""


class Upstream:
    """Answers what is the upstream's and leaves the simulator's own paths to `app`.

    The checks run in this order: the arrival is recorded, the token known (401), the rate kept (429), a planned fault
    is due, the operation's own rules (404, 405, 400, 403), the work.
    """

    def __init__(self, app: ASGIApp, simulator: Simulator) -> None:
        """Stand before `app`."""
        self._app = app
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
        else:
            await self._serve(Exchange(scope, receive, send))

    async def _serve(self, exchange: Exchange) -> None:
        token = self._simulator.tokens.presented(exchange.scope["headers"])
        latency = self._simulator.plan.take_latency(token.name if token else None)
        arrived = await self._arrival(exchange, latency)
        if token is None:
            self._simulator.ledger.arrive_unknown()
            await self._answer(exchange, latency, _unknown(exchange), None)
        else:
            answer, fault = await self._handle(exchange, token, arrived)
            self._simulator.ledger.answered(token.name, answer.status if answer else None)
            await self._answer(exchange, latency, answer, fault)

    async def _answer(self, exchange: Exchange, latency: Latency | None, answer: Answer | None, fault: Fault | None) -> None:
        await self._travel(latency.back if latency else None)
        await _deliver(exchange, answer, fault)

    async def _arrival(self, exchange: Exchange, latency: Latency | None) -> float:
        """Return when the request arrived: the way out is still the network's, so a delayed one arrives later."""
        received = exchange.arrived
        travelled = await self._travel(latency.out if latency else None)
        return self._simulator.clock() if travelled or received is None else received

    async def _travel(self, span: tuple[float, float] | None) -> bool:
        if span is None or span == (0.0, 0.0):
            return False
        await self._simulator.sleep(self._simulator.rng.uniform(*span))
        return True

    async def _handle(self, exchange: Exchange, token: SimulatedToken, arrived: float) -> tuple[Answer | None, Fault | None]:
        """Return the answer (None: there will be none) and the fault it suffers."""
        if not self._simulator.ledger.arrive(token.name, arrived, _target(exchange)):
            return TOO_MANY_REQUESTS, None
        fault = self._simulator.plan.take(token.name, exchange.scope["query_string"])
        if fault is not None and not fault.does_work:
            return stand_in(fault, token.value, self._simulator.rng), fault
        answer = await self._work(exchange, token)
        return (None if isinstance(fault, ResetAfter) else answer), fault

    async def _work(self, exchange: Exchange, token: SimulatedToken) -> Answer:
        scope = exchange.scope
        has_body = await exchange.has_body()
        request = UpstreamRequest(token, scope["method"], scope["path"], scope["query_string"], has_body)
        return perform(self._simulator.world, request)


def _target(exchange: Exchange) -> str:
    query = exchange.scope["query_string"].decode("ascii", "backslashreplace")
    return f"{exchange.scope['path']}?{query}" if query else str(exchange.scope["path"])


def _unknown(exchange: Exchange) -> Answer:
    if exchange.scope["path"] not in OPERATIONS:
        return message(404, "Not found.")
    if exchange.from_bearer:
        return message(401, "Unauthorized: send the token in X-API-TOKEN, not in Authorization.")
    return message(401, "Unauthorized.")


async def _deliver(exchange: Exchange, answer: Answer | None, fault: Fault | None) -> None:
    if answer is None:
        await _leave_unanswered(exchange, fault)
        return
    match fault:
        case Close():
            await exchange.answer(answer.with_header("connection", "close"))
        case SlowBody():
            await exchange.drip(answer, fault.piece, fault.delay)
        case Oversize():
            await exchange.flood(fault.size, declared=fault.declared)
        case _:
            await exchange.answer(answer)


async def _leave_unanswered(exchange: Exchange, fault: Fault | None) -> None:
    match fault:
        case GarbageHttp():
            await exchange.blurt(fault.raw.encode())
        case Hang():
            await exchange.hang(fault.seconds)
        case _:
            await exchange.reset()
