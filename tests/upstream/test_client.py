"""Sends against the simulator on real sockets: what each way of failing is taken for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.catalogue import load_catalogue
from app.cli.serving import free_port, running
from app.domain import (
    NO_PARAMETER,
    Accepted,
    Call,
    Caller,
    Garbled,
    Linked,
    Outcome,
    RateLimited,
    Refused,
    Send,
    TimedOut,
    TokenKind,
    TokenRef,
    TokenRejected,
    TokenValue,
    Unreachable,
)
from app.settings import SHIPPED_CATALOGUE
from app.simulator.app import create_simulator
from app.simulator.protocol import server_config
from app.simulator.tokens import SimulatedToken
from app.upstream import Upstream, open_upstream
from app.upstream.wire import TimeLimits
from tests import loopback
from tests.upstream.peers import Answer, answering

VALUE = "T0ken/value+with=odd&characters"
LINK = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]
QUICK = TimeLimits(connect=0.5, read=0.3, whole=0.8)


def send_of(*ids: int, parameter: str = "orderIds") -> Send:
    """A send that carries one call, for these IDs."""
    one = call(*ids, parameter=parameter)
    return Send(attempt=1, lane="lane-1", ids=ids, calls=(one,), released=0)


def call(*ids: int, parameter: str = "orderIds") -> Call:
    """A call for these IDs."""
    chosen = LINK.parameter(parameter)
    assert chosen
    return Call(
        id="call",
        request_id="request",
        caller=Caller("1", "service", "key"),
        operation=LINK,
        parameter=chosen,
        ids=ids,
        token=TokenRef("1", "shop", TokenKind.ACCOUNT),
        arrived=0,
        deadline=60,
    )


@dataclass
class Moments:
    """Keeps what a lane would be told."""

    writes: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    peers: list[str | None] = field(default_factory=list)
    echoes: int = 0

    @property
    def was_written(self) -> bool:
        """Whether a write was told."""
        return bool(self.writes)

    async def turn(self) -> None:
        """It is always its turn."""

    def written(self, at: float, peer: str | None = None) -> None:
        """Note a write."""
        self.writes.append(at)
        self.peers.append(peer)

    def answered(self, at: float) -> None:
        """Note an answer."""
        self.answers.append(at)

    def echoed(self, finds: int) -> None:
        """Count."""
        self.echoes += finds


@dataclass
class StallingMoments(Moments):
    """Stalls the loop between its turn and its write."""

    stalled_until: float = 0.0

    async def turn(self) -> None:
        """It is its turn, and the loop stalls."""
        time.sleep(0.02)  # noqa: ASYNC251 - the stall
        self.stalled_until = time.monotonic()


@dataclass
class Peer:
    """The simulator at a URL, and a client that sends to it."""

    url: str
    upstream: Upstream
    control: httpx2.AsyncClient

    async def plan(self, **fault: Any) -> None:
        """Order a fault."""
        (await self.control.post("/_simulator/faults", json=fault)).raise_for_status()

    async def send(self, *ids: int, value: str = VALUE) -> tuple[Outcome, Moments]:
        """Send once."""
        moments = Moments()
        return await self.upstream.send(send_of(*ids), TokenValue(value), moments), moments

    async def arrivals(self) -> int:
        """How many requests arrived."""
        return len((await self.control.get("/_simulator/arrivals", params={"token": "shop"})).json())


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    """A simulator that takes any rate, so that these tests need no lane."""
    simulator = create_simulator([SimulatedToken("shop", VALUE, "account")], rate=10_000)
    async with (
        running(server_config(simulator, "127.0.0.1", 0), free_port()) as url,
        loopback.async_client(base_url=url) as control,
    ):
        upstream = open_upstream(url, QUICK)
        yield Peer(url, upstream, control)
        await upstream.aclose()


async def test_a_good_send_links_and_tells_its_moments_in_order(peer: Peer) -> None:
    """The write is told once, after it happened and before the answer."""
    before = time.monotonic()
    outcome, moments = await peer.send(1001, 1002)

    assert outcome == Linked((1001, 1002))
    [written], [answered] = moments.writes, moments.answers
    assert before < written <= answered <= time.monotonic()


async def test_a_probe_is_a_path_and_nothing_else() -> None:
    """An operation without parameters is asked for without a query, and of its answer only the status matters."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno JSON\r\n")
        await writer.drain()

    probe = load_catalogue(SHIPPED_CATALOGUE).probes[0]
    test = replace(call(1), operation=probe, parameter=NO_PARAMETER, ids=(), test=True)
    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        outcome = await upstream.send(Send(attempt=1, lane="lane-1", ids=(), calls=(test,), released=0), TokenValue(VALUE), Moments())
        await upstream.aclose()

    assert outcome == Accepted(200)
    assert heads[0].startswith(b"GET /account HTTP/1.1\r\n")


FAULTS: dict[str, tuple[dict[str, Any], Outcome | type[Outcome]]] = {
    "500": ({"kind": "status", "status": 500, "body": "oops"}, Refused(500, "oops")),
    "503": ({"kind": "status", "status": 503, "body": ""}, Refused(503, "")),
    "400": ({"kind": "status", "status": 400, "body": "which parameter?"}, Refused(400, "which parameter?")),
    "404": ({"kind": "status", "status": 404, "body": "no"}, Refused(404, "no")),
    "401": ({"kind": "status", "status": 401, "body": "who?"}, TokenRejected(401, "who?")),
    "403": ({"kind": "status", "status": 403, "body": "not you"}, TokenRejected(403, "not you")),
    "429 with seconds": ({"kind": "rate-limited", "retry_after": "7"}, RateLimited(7.0)),
    "429 without": ({"kind": "rate-limited"}, RateLimited(None)),
    "429 with nonsense": ({"kind": "rate-limited", "retry_after": "soon"}, RateLimited(None)),
    "redirect": ({"kind": "redirect", "location": "http://127.0.0.1:9/elsewhere"}, Garbled),
    "an object": ({"kind": "garbage", "bodies": ["{}"]}, Garbled),
    "strings": ({"kind": "garbage", "bodies": ['["1"]']}, Garbled),
    "booleans": ({"kind": "garbage", "bodies": ["[true]"]}, Garbled),
    "fractions": ({"kind": "garbage", "bodies": ["[1.0]"]}, Garbled),
    "no JSON": ({"kind": "garbage", "bodies": ["<html>"]}, Garbled),
    "deep nesting": ({"kind": "garbage", "bodies": ["[" * 100_000]}, Garbled),
    "no HTTP": ({"kind": "garbage-http"}, Garbled),
    "over the cap, declared": ({"kind": "oversize", "size": 1_048_577}, Garbled),
    "over the cap, chunked": ({"kind": "oversize", "size": 1_048_577, "declared": False}, Garbled),
    "reset before the work": ({"kind": "reset-before"}, Unreachable),
    "reset after the work": ({"kind": "reset-after"}, Unreachable),
    "no answer": ({"kind": "hang"}, TimedOut),
    "a slow body": ({"kind": "slow-body", "delay": 0.2}, TimedOut),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS.keys())
async def test_each_failure_is_a_value(peer: Peer, fault: dict[str, Any], expected: Outcome | type[Outcome]) -> None:
    """Each way in which the upstream can fail becomes one outcome, sent once, and the next send is well."""
    await peer.plan(count=1, **fault)
    outcome, moments = await peer.send(1001)
    after, _ = await peer.send(1003)

    assert outcome == expected if not isinstance(expected, type) else isinstance(outcome, expected)
    assert len(moments.writes) == 1
    assert await peer.arrivals() == 2
    assert after == Linked((1003,))


@pytest.mark.parametrize("kind", ["reset-before", "reset-after", "hang"])
async def test_a_lost_answer_is_uncertain(peer: Peer, kind: str) -> None:
    """When the request had left and no answer came, nobody can say whether the work was done."""
    await peer.plan(kind=kind, count=1)
    outcome, moments = await peer.send(1001)

    assert outcome.uncertain
    assert moments.writes
    assert not moments.answers


async def test_an_answer_at_the_cap_is_taken(peer: Peer) -> None:
    """One mebibyte is within the cap of one mebibyte."""
    await peer.plan(kind="oversize", size=1_048_576, count=1)
    outcome, _ = await peer.send(1001)

    assert isinstance(outcome, Linked)


async def test_an_unknown_token_is_rejected(peer: Peer) -> None:
    """A 401 is the token's fault."""
    outcome, _ = await peer.send(1001, value="another-token-entirely")

    assert isinstance(outcome, TokenRejected)


async def test_nobody_there_is_certain() -> None:
    """A connection that was never made leaves no doubt, and no write is told."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    upstream, moments = open_upstream(f"http://127.0.0.1:{port}", QUICK), Moments()
    outcome = await upstream.send(send_of(1), TokenValue(VALUE), moments)
    await upstream.aclose()

    assert isinstance(outcome, Unreachable)
    assert not outcome.uncertain
    assert not moments.writes


async def test_a_host_that_takes_no_connection_times_out_unsent() -> None:
    """A listener whose backlog is full: the time-out comes before any write."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)  # noqa: FBT003 - the socket's own signature
            filler.connect_ex(full.getsockname())
        upstream, moments = open_upstream("http://127.0.0.1:{1}".format(*full.getsockname()), QUICK), Moments()
        outcome = await upstream.send(send_of(1), TokenValue(VALUE), moments)
        await upstream.aclose()
        for filler in fillers:
            filler.close()

    assert isinstance(outcome, Unreachable)
    assert not moments.writes


async def test_the_request_holds_nothing_but_the_allowlist() -> None:
    """Method, path, the parameter in the catalogue's style, three headers, the token and HTTP's own framing: nothing else."""
    received = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n[]")

    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        await upstream.send(send_of(1, 2), TokenValue(VALUE), Moments())
        await upstream.aclose()
    start, *fields = (await received).decode().strip().split("\r\n")

    assert start in {"PATCH /orders/link?orderIds=1%2C2 HTTP/1.1", "PATCH /orders/link?orderIds=1,2 HTTP/1.1"}
    assert {field.partition(":")[0].lower(): field.partition(": ")[2] for field in fields} == {
        "host": url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "flxpoint-gateway",
        "x-api-token": VALUE,
        "connection": "keep-alive",
        "content-length": "0",
    }


async def test_a_cookie_is_not_kept() -> None:
    """A second send carries no cookie that the first one's answer set."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\n[]")

    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        for _ in range(2):
            await upstream.send(send_of(1), TokenValue(VALUE), Moments())
        await upstream.aclose()

    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_dropped_connection_is_not_retried_in_silence(method: str) -> None:
    """When a kept-alive connection turns out dead, the send fails as one send; the client writes no second time."""
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await reader.readuntil(b"\r\n\r\n")
        served += 1
        if served == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            await reader.readuntil(b"\r\n\r\n")
            served += 1
        writer.transport.abort()

    moments, asked = Moments(), call(1)
    asking = replace(send_of(1), calls=(replace(asked, operation=replace(asked.operation, method=method)),))
    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        first = await upstream.send(asking, TokenValue(VALUE), Moments())
        second = await upstream.send(asking, TokenValue(VALUE), moments)
        await upstream.aclose()

    assert first == Linked(())
    assert isinstance(second, Unreachable)
    assert second.uncertain
    assert served == 2
    assert len(moments.writes) == 1


def out_of_step(answers: Iterable[bytes]) -> tuple[Answer, list[int]]:
    """A peer that answers on its first connection as told, on others every request with its own ID; and how many there are."""
    told, accepted = iter(answers), [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted[0] += 1
        first = accepted[0] == 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = next(told) if first else b"[%b]" % head.split(b" ")[1].partition(b"=")[2]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    return answer, accepted


async def test_a_peer_that_repeats_an_answer_harms_one_send_at_most() -> None:
    """What holds an ID that nobody asked for is passed on, but the connection, whose answers may all be one late, is not used again."""
    answer, accepted = out_of_step([b"[1]", b"[1]", b"[2]", b"[3]"])
    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        outcomes = [await upstream.send(send_of(number), TokenValue(VALUE), Moments()) for number in range(1, 5)]
        await upstream.aclose()

    assert outcomes == [Linked((1,)), Linked((1,)), Linked((3,)), Linked((4,))]
    assert accepted == [2]


async def test_ids_of_another_sort_are_no_strangers() -> None:
    """Where the answer lists not what was asked for, but what belongs to it, its connection is kept whatever it lists."""
    answer, accepted = out_of_step([b"[7]", b"[8]", b"[]"])
    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        asked = [send_of(number, parameter="orderItemIds") for number in range(1, 4)]
        outcomes = [await upstream.send(send, TokenValue(VALUE), Moments()) for send in asked]
        await upstream.aclose()

    assert outcomes == [Linked((7,)), Linked((8,)), Linked(())]
    assert accepted == [1]


class Watched(TokenValue):
    """Notes whether it is revealed on the loop's thread: once for the request, and once where it is searched for."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.on_loop: list[bool] = []

    def reveal(self) -> str:
        """Note, and reveal."""
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        return super().reveal()


PART = b"\\u0025%25&amp;"
SAID = {
    "a short body": (PART * 100, "", True),
    "a long body": (PART * 10_000, "", False),
    "long headers": (b"", "".join(f"X-{number}: {'x' * 8_000}\r\n" for number in range(10)), False),
}


@pytest.mark.parametrize(("body", "fields", "on_loop"), SAID.values(), ids=SAID.keys())
async def test_a_long_answer_is_searched_beside_the_loop(body: bytes, fields: str, on_loop: bool) -> None:  # noqa: FBT001 - a column of the table
    """What is made to be searched slowly stalls no lane."""
    head = f"HTTP/1.1 404 Not Found\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + body)
        await writer.drain()

    value = Watched(VALUE)
    async with answering(answer) as url:
        upstream = open_upstream(url, QUICK)
        outcome = await upstream.send(send_of(1), value, Moments())
        await upstream.aclose()

    assert isinstance(outcome, Refused)
    assert value.on_loop == [True, on_loop]


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_echoed_token_is_taken_out(peer: Peer, status: int) -> None:
    """Whatever of the token the upstream says back is masked, in each of its encodings, and counted, in headers and body."""
    await peer.plan(kind="echo-token", status=status, count=1)
    outcome, moments = await peer.send(1001)
    _, after = await peer.send(1003)
    body = getattr(outcome, "body", "")

    assert (moments.echoes, after.echoes) == (12, 0)
    assert "•••" in body
    assert VALUE not in body
    assert VALUE[4:-4] not in body


async def test_the_write_is_told_after_a_stalled_loop(peer: Peer) -> None:
    """When the loop stalls while the request is on its way to the socket, the moment told is the later one."""
    await peer.send(1001)
    moments = StallingMoments()
    await peer.upstream.send(send_of(1002), TokenValue(VALUE), moments)

    assert moments.stalled_until
    assert moments.stalled_until <= moments.writes[0] <= moments.answers[0]
