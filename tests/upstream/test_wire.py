"""The wire on real sockets: the moment of the write, every way in which an answer may be framed, kept connections, and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import uvloop
from aiohttp.http import HttpProcessingError

from app.domain import TurnLost
from app.upstream.wire import Answer, AnswerTooLarge, TimeLimits, Wire, flushed
from benchmarks.authority import make_authority
from tests.upstream.peers import Answer as Peer
from tests.upstream.peers import Blurting, answering

REQUEST = b"PATCH /orders/link?orderIds=1 HTTP/1.1\r\nHost: peer\r\nContent-Length: 0\r\n\r\n"
QUICK = TimeLimits(connect=0.5, read=0.3, whole=0.9)
MOST = 100
LARGE = bytes(8 * 2**20)


@asynccontextmanager
async def transport_to_a_peer_that_does_not_read() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A connection whose other end reads only when the test does."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # noqa: FBT003 - the socket's own signature
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    yield transport, theirs
    transport.abort()
    theirs.close()


async def test_a_write_counts_when_the_socket_has_everything() -> None:
    """While bytes stand in the transport's buffer the request hasn't left."""
    async with transport_to_a_peer_that_does_not_read() as (transport, peer):
        transport.write(LARGE)
        waiting = asyncio.create_task(flushed(transport))
        await asyncio.sleep(0.02)
        early = waiting.done()
        received = 0
        while received < len(LARGE):
            received += len(await asyncio.get_running_loop().sock_recv(peer, 2**20))
        await waiting

    assert not early


async def test_a_write_that_is_cut_short_is_aborted() -> None:
    """After a cancelled wait nothing of the rest leaves."""
    async with transport_to_a_peer_that_does_not_read() as (transport, _):
        transport.write(LARGE)
        waiting = asyncio.create_task(flushed(transport))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert transport.is_closing()


class Moments:
    """Keeps what a lane would be told, in the order in which it was."""

    def __init__(self, *, lost: bool = False) -> None:
        self.told: list[str] = []
        self.written_at = 0.0
        self._lost = lost

    @property
    def was_written(self) -> bool:
        """Whether a write was told."""
        return "written" in self.told

    async def turn(self) -> None:
        """It is its turn, unless that is lost."""
        self.told.append("turn")
        if self._lost:
            raise TurnLost

    def written(self, at: float, peer: str | None = None) -> None:
        """Note the write, and to whom."""
        self.told.append("written")
        self.written_at, self.peer = at, peer

    def answered(self, _at: float) -> None:
        """Note the answer."""
        self.told.append("answered")

    @property
    def echoes(self) -> int:
        """None: the wire looks for no values."""
        return 0

    def echoed(self, finds: int) -> None:
        """The wire never tells this."""
        raise AssertionError(finds)


@asynccontextmanager
async def wired(url: str, verify: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A wire to a peer, closed at the end."""
    wire = Wire(url, verify or ssl.create_default_context(), QUICK)
    yield wire
    await wire.aclose()


@dataclass(frozen=True, slots=True)
class Taken:
    """An answer as it came."""

    status: int
    body: bytes
    own: bool = True


async def exchanged(wire: Wire, moments: Moments, *, request: bytes = REQUEST, own: bool = True) -> Taken:
    """Send a request; `own`: whether the answer can be its own."""

    async def read(answer: Answer) -> Taken:
        return Taken(answer.status, answer.body, own)

    return await wire.exchange(request, moments, most_bytes=MOST, read=read)


def saying(*parts: bytes, pause: float = 0.0, ends: bool = False, once: bool = False) -> Peer:
    """A peer that answers every request, or one, with these parts, one after the other; `ends`: and closes then."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            if ends:
                writer.close()
            if ends or once:
                return

    return answer


FRAMINGS = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]",),
    "in pieces": (b"HTTP/1.1 200 OK\r\nCont", b"ent-Length: 3\r\n\r\n[", b"1]"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n", b"2\r\n1]\r\n0\r\n\r\n"),
    "after an interim answer": (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]",
    ),
    "a cookie and a redirect beside it": (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 3\r\n\r\n[1]",
    ),
}


@pytest.mark.parametrize("parts", FRAMINGS.values(), ids=FRAMINGS.keys())
async def test_an_answer_is_read_however_it_is_framed(parts: tuple[bytes, ...]) -> None:
    """Its status and body are whole, its moments come in order, and the connection carries the next send."""
    first, second = Moments(), Moments()
    async with answering(saying(*parts, pause=0.005)) as url, wired(url) as wire:
        answers = [await exchanged(wire, moments) for moments in (first, second)]

    assert [(answer.status, answer.body) for answer in answers] == [(200, b"[1]")] * 2
    assert first.told == second.told == ["turn", "written", "answered"]
    assert first.peer == "127.0.0.1"


async def test_an_answer_may_end_with_its_connection() -> None:
    """Without a length the body lasts until the peer closes; the next send gets a connection of its own."""
    async with answering(saying(b"HTTP/1.1 200 OK\r\n\r\n[1", b"]", pause=0.01, ends=True)) as url, wired(url) as wire:
        answers = [await exchanged(wire, Moments()) for _ in range(2)]

    assert [answer.body for answer in answers] == [b"[1]", b"[1]"]


BROKEN = {
    "no HTTP": (saying(b"SSH-2.0-OpenSSH\r\n\r\n"), HttpProcessingError),
    "a header of 100 KB": (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), HttpProcessingError),
    "a body that is too large": (saying(b"HTTP/1.1 500 No\r\nContent-Length: 101\r\n\r\n" + b"x" * 101), AnswerTooLarge),
    "a body that never ends": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1"), TimeoutError),
    "a body that is cut short": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1", ends=True), aiohttp.ClientError),
    "nothing": (saying(), TimeoutError),
    "the end": (saying(ends=True), aiohttp.ClientError),
}


@pytest.mark.parametrize(("peer", "expected"), BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_is_not_whole_ends_its_connection(peer: Peer, expected: type[Exception]) -> None:
    """It is an error after the write, and whatever comes late can't be taken for the next send's answer."""
    accepted, moments = 0, Moments()

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await peer(reader, writer)

    async with answering(counted) as url, wired(url) as wire:
        for stamps in (moments, Moments()):
            with pytest.raises(expected):
                await exchanged(wire, stamps)

    assert moments.was_written
    assert accepted == 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n"])
async def test_a_body_that_drips_on_is_cut_off(head: bytes) -> None:
    """However its end is told, an answer that isn't whole in time is none, though something came of it all the time."""
    moments = Moments()
    async with answering(saying(head, *[b"1"] * 90, pause=0.1)) as url, wired(url) as wire:
        with pytest.raises(TimeoutError):
            await exchanged(wire, moments)

    assert moments.was_written


async def test_what_a_peer_says_unasked_is_no_answer() -> None:
    """A connection on which something came between two sends is not used again."""
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[%d]" % served)
        await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[99]")
        await reader.read()

    async with answering(answer) as url, wired(url) as wire:
        first = await exchanged(wire, Moments())
        await asyncio.sleep(0.05)
        second = await exchanged(wire, Moments())

    assert (first.body, second.body) == (b"[1]", b"[2]")


async def test_a_connection_whose_answer_may_be_anothers_is_not_used_again() -> None:
    """Such an answer is given all the same."""
    accepted = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await saying(*FRAMINGS["a length"])(reader, writer)

    async with answering(counted) as url, wired(url) as wire:
        answers = [await exchanged(wire, Moments(), own=own) for own in (True, False, True)]

    assert [answer.body for answer in answers] == [b"[1]"] * 3
    assert accepted == 2


async def test_a_turn_that_is_lost_writes_nothing() -> None:
    """The peer sees a connection, and not one byte."""
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            received.set_result(await reader.read())
        except ConnectionResetError:
            received.set_result(b"")

    moments = Moments(lost=True)
    async with answering(answer) as url, wired(url) as wire:
        with pytest.raises(TurnLost):
            await exchanged(wire, moments)
        said = await received

    assert not said
    assert not moments.was_written


async def test_a_connection_that_is_lost_before_the_turn_is_not_written_to() -> None:
    """That failure is certain: no write is told."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    moments = Waiting()
    async with answering(answer) as url, wired(url) as wire:
        with pytest.raises(aiohttp.ClientConnectionError):
            await exchanged(wire, moments)

    assert not moments.was_written


class Waiting(Moments):
    """Its turn comes after a while."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()

    async def turn(self) -> None:
        """Wait, so that whatever a peer does meanwhile has come."""
        self.waits.set()
        await asyncio.sleep(0.2)
        await super().turn()


UNASKED = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\n[9]"
DURING_A_TURN = {"speaks": UNASKED, "begins to speak": UNASKED[:16], "hangs up": b""}


@pytest.mark.parametrize(("kept", "said"), [(True, UNASKED), (True, b""), *((False, said) for said in DURING_A_TURN.values())])
async def test_a_connection_on_which_a_peer_acts_during_the_turn_is_not_written_to(kept: bool, said: bytes) -> None:  # noqa: FBT001 - a column of the table
    """Whether it was used before or not: that failure is certain, no write is told, and the next send gets a connection of its own."""
    moments, served, received = Waiting(), 0, b""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served, received
        served += 1
        if kept or served > 1:
            await saying(FRAMINGS["a length"][0], once=True)(reader, writer)
        if served == 1:
            await moments.waits.wait()
            writer.write(said)
            if not said:
                writer.close()
            received = await reader.read()

    async with answering(answer) as url, wired(url) as wire:
        if kept:
            await exchanged(wire, Moments())
        with pytest.raises(aiohttp.ClientConnectionResetError):
            await exchanged(wire, moments)
        after = await exchanged(wire, Moments())

    assert not moments.was_written
    assert received == b""
    assert (after.body, served) == (b"[1]", 2)


@pytest.mark.parametrize("said", DURING_A_TURN.values(), ids=DURING_A_TURN.keys())
async def test_a_new_connection_on_which_a_peer_acts_at_once_is_the_only_one(said: bytes) -> None:
    """A peer that speaks or hangs up whenever it is connected to is connected to once: the send fails, certainly unwritten."""
    accepted, moments = 0, Waiting()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.write(said)
        if not said:
            writer.close()
        await reader.read()

    async with answering(answer) as url, wired(url) as wire, asyncio.timeout(5):
        with pytest.raises(aiohttp.ClientConnectionResetError):
            await exchanged(wire, moments)

    assert accepted == 1
    assert not moments.was_written


async def refused_on_a_busy_loop(url: str, moments: Moments) -> None:
    """A send that fails unwritten, while others keep the loop so busy that a peer is always quicker."""

    async def others() -> None:
        while True:
            time.sleep(0.001)  # noqa: ASYNC251 - the stall
            await asyncio.sleep(0)

    busy = asyncio.create_task(others())
    async with wired(url) as wire, asyncio.timeout(2):
        with pytest.raises(aiohttp.ClientConnectionResetError):
            await exchanged(wire, moments)
    busy.cancel()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("said", DURING_A_TURN.values(), ids=DURING_A_TURN.keys())
def test_a_peer_quicker_than_the_loop_gets_one_connection_a_send(said: bytes, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """On uvloop, which serves, what it says has come before the connection is handed over."""
    moments = Waiting()
    with Blurting(said) as peer, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(refused_on_a_busy_loop(peer.url, moments))

    assert peer.accepted == 1
    assert not moments.was_written


async def test_kept_connections_that_are_spoken_on_are_all_thrown_away() -> None:
    """However many they are, the send goes on a new one."""
    accepted, spoken = 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await saying(FRAMINGS["a length"][0], once=True)(reader, writer)
        await spoken.wait()
        writer.write(UNASKED)
        await reader.read()

    async with answering(answer) as url, wired(url) as wire:
        await asyncio.gather(*(exchanged(wire, Waiting()) for _ in range(5)))
        spoken.set()
        await asyncio.sleep(0.05)
        after = await exchanged(wire, Moments())

    assert (after.body, accepted) == (b"[1]", 6)


async def test_a_handshake_that_never_ends_is_a_connection_that_was_not_made() -> None:
    """The limit to connect covers all that stands before the write, TLS too."""
    moments = Moments()
    async with answering(saying()) as url, wired(url.replace("http", "https")) as wire, asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await exchanged(wire, moments)

    assert not moments.told


async def test_a_connection_that_is_lost_while_it_is_written_to_may_have_brought_the_request() -> None:
    """That failure is of the connection, and a write is told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    moments = Moments()
    async with answering(answer) as url, wired(url) as wire:
        with pytest.raises(aiohttp.ClientConnectionError):
            await exchanged(wire, moments, request=LARGE)

    assert moments.told == ["turn", "written"]


async def test_the_write_is_told_after_it_happened() -> None:
    """A loop that stalls after the turn was given, and before the write, makes the moment told the later one."""

    class Stalling(Moments):
        until = 0.0

        async def turn(self) -> None:
            time.sleep(0.02)  # noqa: ASYNC251 - the stall
            self.until = time.monotonic()

    moments = Stalling()
    async with answering(saying(*FRAMINGS["a length"])) as url, wired(url) as wire:
        await exchanged(wire, moments)

    assert moments.written_at >= moments.until > 0


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """An authority's certificate, and what a server needs that has one of it."""
    authority, certificate, key = make_authority(tmp_path_factory.mktemp("authority"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return authority, context


async def test_tls_is_verified(certified: tuple[Path, ssl.SSLContext]) -> None:
    """A server whose certificate is of an authority that we trust is sent to; from any other the request is kept."""
    authority, serving = certified
    trusted, unknown = Moments(), Moments()
    async with answering(saying(*FRAMINGS["a length"]), tls=serving) as url:
        async with wired(url, ssl.create_default_context(cafile=str(authority))) as wire:
            answer = await exchanged(wire, trusted)
        async with wired(url) as wire:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await exchanged(wire, unknown)

    assert answer.body == b"[1]"
    assert trusted.told == ["turn", "written", "answered"]
    assert not unknown.told


async def test_a_certificate_of_another_host_is_refused(certified: tuple[Path, ssl.SSLContext]) -> None:
    """The name is verified too: the certificate is for 127.0.0.1, not for localhost."""
    authority, serving = certified
    moments = Moments()
    verify = ssl.create_default_context(cafile=str(authority))
    async with answering(saying(*FRAMINGS["a length"]), tls=serving) as url, wired(url.replace("127.0.0.1", "localhost"), verify) as wire:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await exchanged(wire, moments)

    assert not moments.told
