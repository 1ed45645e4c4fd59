"""Requests that two readers could understand differently, over real sockets: what the parser and we together let through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.api.protocol import BoundedProtocol
from app.cli.serving import free_port, gateway_config, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = b"GET /first HTTP/1.1\r\nHost: gateway\r\n"
POST = b"POST /first HTTP/1.1\r\nHost: gateway\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b"\r\n2\r\nhi\r\n0\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: gateway\r\n\r\n"

BAD_HEADS = {
    "a length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "one length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\nhi",
    "a signed length": POST + b"Content-Length: +2\r\n\r\nhi",
    "a negative length": POST + b"Content-Length: -2\r\n\r\nhi",
    "a hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\nhi",
    "an empty length": POST + b"Content-Length: \r\n\r\n",
    "a length that overflows": POST + b"Content-Length: 18446744073709551618\r\n\r\nhi",
    "chunked, then identity": POST + b"Transfer-Encoding: chunked, identity\r\n" + BODY,
    "identity": POST + b"Transfer-Encoding: identity\r\n" + BODY,
    "gzip, then chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n" + BODY,
    "a coding of nearly that name": POST + b"Transfer-Encoding: xchunked\r\n" + BODY,
    "a coding that begins so": POST + b"Transfer-Encoding: chunkedx\r\n" + BODY,
    "a vertical tab before the coding": POST + b"Transfer-Encoding: \x0bchunked\r\n" + BODY,
    "a quoted coding": POST + b'Transfer-Encoding: "chunked"\r\n' + BODY,
    "an empty coding": POST + b"Transfer-Encoding: \r\n\r\n",
    "a comma before the coding": POST + b"Transfer-Encoding: , chunked\r\n" + BODY,
    "a parameter of the coding": POST + b"Transfer-Encoding: chunked;q=1\r\n" + BODY,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n" + BODY,
    "chunked in two headers": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + BODY,
    "another coding in a second header": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" + BODY,
    "another coding in a first header": POST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n" + BODY,
    "a coding in HTTP/1.0": b"POST /first HTTP/1.0\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n" + BODY,
    "a folded header": GET + b"X-A: a\r\n b\r\n\r\n",
    "a header folded with a tab": GET + b"X-A: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    "a fold before the first header": b"GET /first HTTP/1.1\r\n Host: gateway\r\n\r\n",
    "bare line feeds": b"GET /first HTTP/1.1\nHost: gateway\n\n",
    "a bare line feed after the request line": b"GET /first HTTP/1.1\nHost: gateway\r\n\r\n",
    "a bare line feed after a header": b"GET /first HTTP/1.1\r\nHost: gateway\nX-A: b\r\n\r\n",
    "a bare line feed at the end": b"GET /first HTTP/1.1\r\nHost: gateway\r\n\n",
    "no version and a bare line feed": b"POST /first\nHost: gateway\r\nContent-Length: 2\r\n\r\nhi",
    "no version": b"GET /first\r\nHost: gateway\r\n\r\n",
    "HTTP/0.9": b"GET /first HTTP/0.9\r\nHost: gateway\r\n\r\n",
    "HTTP/1.2": b"GET /first HTTP/1.2\r\nHost: gateway\r\n\r\n",
    "HTTP/2.0": b"GET /first HTTP/2.0\r\nHost: gateway\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a bare carriage return": GET + b"X-A: a\rb\r\n\r\n",
    "a carriage return before a header": GET + b"X-A: \rTransfer-Encoding: chunked\r\n\r\n",
    "a doubled carriage return": b"GET /first HTTP/1.1\r\r\nHost: gateway\r\n\r\n",
    "a blank before the colon": GET + b"Content-Length : 2\r\n\r\nhi",
    "a tab before the colon": GET + b"Content-Length\t: 2\r\n\r\nhi",
    "NUL in a value": GET + b"X-A: a\0b\r\n\r\n",
    "a control character in a value": GET + b"X-A: a\x01b\r\n\r\n",
    "DEL in a value": GET + b"X-A: a\x7fb\r\n\r\n",
    "NUL in a name": GET + b"X\0A: b\r\n\r\n",
    "a blank in a name": GET + b"X A: b\r\n\r\n",
    "a letter beyond ASCII in a name": GET + b"X\xe9: b\r\n\r\n",
    "no name": GET + b": b\r\n\r\n",
    "no colon": GET + b"abc\r\n\r\n",
    "no Host": b"GET /first HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: other\r\n\r\n",
    "one Host twice": GET + b"Host: gateway\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET /first HTTP/1.0\r\nHost: gateway\r\nHost: other\r\n\r\n",
    "an empty Host": b"GET /first HTTP/1.1\r\nHost: \r\n\r\n",
    "a Host with a path": b"GET /first HTTP/1.1\r\nHost: gateway/x\r\n\r\n",
    "a Host with a user": b"GET /first HTTP/1.1\r\nHost: user@gateway\r\n\r\n",
    "a list of Hosts": b"GET /first HTTP/1.1\r\nHost: gateway, other\r\n\r\n",
    "an absolute target": b"GET http://other/first HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a fragment": b"GET /first?a=1#b HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a relative target": b"GET first HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a control character in the target": b"GET /fir\x01st HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a letter beyond ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a tunnel": b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    "an upgrade with a length": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    "an upgrade with chunks": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n" + BODY,
}

BAD_BODIES = {
    "an extension with a line feed": b"2;a\nhi\r\n0\r\n\r\n",
    "an extension with an open quote": b'2;a="b\r\nhi\r\n0\r\n\r\n',
    "a size with a bare line feed": b"2\nhi\n0\n\n",
    "a chunk with a bare line feed": b"2\r\nhi\n0\r\n\r\n",
    "a size with a blank": b"2 \r\nhi\r\n0\r\n\r\n",
    "a size after a blank": b" 2\r\nhi\r\n0\r\n\r\n",
    "a size with a prefix": b"0x2\r\nhi\r\n0\r\n\r\n",
    "a signed size": b"+2\r\nhi\r\n0\r\n\r\n",
    "a negative size": b"-2\r\nhi\r\n0\r\n\r\n",
    "a size with an underscore": b"0_2\r\nhi\r\n0\r\n\r\n",
    "a size that overflows": b"10000000000000002\r\nhi\r\n0\r\n\r\n",
    "no size": b"\r\nhi\r\n0\r\n\r\n",
    "a size with a letter": b"2g\r\nhi\r\n0\r\n\r\n",
    "more than its size": b"2\r\nhiXX\r\n0\r\n\r\n",
    "a trailer": b"2\r\nhi\r\n0\r\nX-A: b\r\n\r\n",
    "a credential as a trailer": b"2\r\nhi\r\n0\r\nAuthorization: Bearer late\r\n\r\n",
    "a length as a trailer": b"2\r\nhi\r\n0\r\nContent-Length: 2\r\n\r\n",
}

WELL_FORMED = {
    "as usual": GET + b"\r\n",
    "HTTP/1.0 without Host": b"GET /first HTTP/1.0\r\n\r\n",
    "a Host with a port": b"GET /first HTTP/1.1\r\nHost: gateway.example:8080\r\n\r\n",
    "an address as Host": b"GET /first HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "a length": POST + b"Content-Length: 2\r\n\r\nhi",
    "a length with zeros": POST + b"Content-Length: 002\r\n\r\nhi",
    "chunks": CHUNKED + b"2\r\nhi\r\n0\r\n\r\n",
    "chunks, in capitals": POST + b"TRANSFER-ENCODING: CHUNKED\r\n" + BODY,
    "chunks with an extension": CHUNKED + b'2;a="b"\r\nhi\r\n0\r\n\r\n',
    "an upgrade": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "an upgrade with an empty body": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    "blank lines before": b"\r\n\r\n" + GET + b"\r\n",
}


@dataclass
class Server:
    """A server at `port` whose application notes what it was asked: `(path, body)`, and the headers after the body."""

    port: int = 0
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read all and answer `well`; `/slow` takes its time, `/unread` reads nothing."""
        request = Request(scope, receive)
        path, body = scope["path"], b""
        self.seen.append((path, body))
        try:
            body = b"" if path == "/unread" else await request.body()
        except ClientDisconnect:
            return
        self.seen[-1] = (path, body)
        self.headers = scope["headers"]
        await asyncio.sleep(0.2 if path == "/slow" else 0)
        await PlainTextResponse("well")(scope, receive, send)

    async def ask(self, raw: bytes, later: bytes = b"", *, answers: int | None = None) -> bytes:
        """All that the server says to these bytes, and to those that come a moment later.

        Until it closes the connection (which is said as `<closed>`), or has given so many whole answers.
        """
        self.seen.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        await asyncio.sleep(0.02 if later else 0)
        writer.write(later)
        said = b""
        async with asyncio.timeout(10):
            while answers is None or said.count(b"well") < answers:
                part = await reader.read(65_536)
                said += part or b"<closed>"
                if not part:
                    break
        writer.transport.abort()
        return said


@asynccontextmanager
async def served(protocol: type[BoundedProtocol] = BoundedProtocol) -> AsyncIterator[Server]:
    """A server that speaks as the gateway does."""
    server = Server()
    config = gateway_config(server, host="127.0.0.1", port=0, grace=0)
    config.http = protocol
    async with running(config, free_port()) as url:
        server.port = int(url.rpartition(":")[2])
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    """One server for all."""
    async with served() as running_server:
        yield running_server


@pytest.mark.parametrize("raw", BAD_HEADS.values(), ids=BAD_HEADS.keys())
async def test_an_ambiguous_head_is_refused(server: Server, raw: bytes) -> None:
    """It gets 400, nothing of it or after it is a request, and the connection ends."""
    said = await server.ask(raw + SECOND)

    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.endswith(b"<closed>")
    assert server.seen == []


@pytest.mark.parametrize("chunks", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_an_ambiguous_body_is_refused(server: Server, chunks: bytes) -> None:
    """It gets 400, what comes after it is no request, and the connection ends."""
    said = await server.ask(CHUNKED + chunks + SECOND)

    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.endswith(b"<closed>")
    assert [path for path, _ in server.seen] == ["/first"]


@pytest.mark.parametrize("raw", WELL_FORMED.values(), ids=WELL_FORMED.keys())
async def test_a_well_formed_request_is_taken(server: Server, raw: bytes) -> None:
    """Strictness costs no client that speaks HTTP; a body is what its framing says."""
    said = await server.ask(raw, answers=1)

    assert said.startswith(b"HTTP/1.1 200 ")
    assert server.seen == [("/first", b"hi" if b"hi" in raw else b"")]


async def test_a_trailer_that_comes_late_is_no_header(server: Server) -> None:
    """What was checked isn't added to afterwards: a trailer never stands among the headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CHUNKED + b"2\r\nhi\r\n")
    await asyncio.sleep(0.05)
    writer.write(b"0\r\nAuthorization: Bearer late\r\n\r\n")
    said = await reader.read()
    writer.transport.abort()

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"authorization" not in dict(server.headers)


async def test_an_offer_to_upgrade_is_declined(server: Server) -> None:
    """The request is answered as if there were none; the parser would read nothing more, so the connection ends."""
    said = await server.ask(WELL_FORMED["an upgrade"] + SECOND)

    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in said
    assert said.endswith(b"<closed>")
    assert server.seen == [("/first", b"")]


@pytest.mark.parametrize("path", [b"/first", b"/unread"])
async def test_a_client_that_waits_to_be_asked_for_its_body_gets_one_answer(server: Server, path: bytes) -> None:
    """Whether its body comes after an answer that didn't wait for it can't be known, so the connection ends."""
    head = POST.replace(b"/first", path) + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    said = await server.ask(head + b"hi" + SECOND)

    assert said.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in said
    assert said.endswith(b"<closed>")


async def test_a_malformed_second_request_takes_no_answer_from_the_first(server: Server) -> None:
    """The first has its own answer, however long that takes; then the connection ends, and nothing after it is read."""
    said = await server.ask(GET.replace(b"/first", b"/slow") + b"\r\n" + b"rubbish\r\n\r\n" + SECOND)

    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.endswith(b"<closed>")
    assert server.seen == [("/slow", b"")]


async def test_a_malformed_body_takes_no_answer_from_an_earlier_request(server: Server) -> None:
    """Behind a request that still waits for its answer there is no 400: whoever reads it would take it for that request's."""
    said = await server.ask(GET.replace(b"/first", b"/slow") + b"\r\n" + CHUNKED + b"+2\r\n")

    assert b"400" not in said
    assert said.endswith(b"<closed>")


async def test_an_unread_body_is_no_next_request(server: Server) -> None:
    """A body that nobody reads is passed over, byte by byte, and what follows it is the next request."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: gateway\r\n\r\n"
    head = POST.replace(b"/first", b"/unread") + f"Content-Length: {len(hidden)}\r\n\r\n".encode()
    said = await server.ask(head + hidden + SECOND, answers=2)

    assert said.count(b"HTTP/1.1 200 ") == 2
    assert [path for path, _ in server.seen] == ["/unread", "/second"]


class Hasty(BoundedProtocol):
    """As the gateway's, but with little patience."""

    head_seconds = 0.1
    body_seconds = 0.1


@pytest.mark.parametrize("beginning", [b"GET /second HTTP/1.1\r\n", b"\r\n", b"GET /second HTTP/1.1\r\nX-Long: " + b"a" * 100_000])
async def test_a_bad_second_head_takes_no_answer_from_the_first(beginning: bytes) -> None:
    """One that is slow, or too large: the first request waits for its turn, and 408 or 431 is no answer to it."""
    async with served(Hasty) as server:
        said = await server.ask(GET.replace(b"/first", b"/slow") + b"\r\n", beginning)

    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.endswith(b"<closed>")


async def test_an_unread_body_that_never_ends_holds_no_connection() -> None:
    """The answer has been given; whoever still drips a body is cut off."""
    async with served(Hasty) as server:
        said = await server.ask(POST.replace(b"/first", b"/unread") + b"Content-Length: 1000\r\n\r\nhi")

    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"<closed>")


async def test_a_slow_body_ends_the_connection_with_its_answer() -> None:
    """A route that waits for the body longer than that answers, and nothing follows."""
    async with served(Hasty) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST + b"Content-Length: 2\r\n\r\nh")
        await asyncio.sleep(0.2)
        writer.write(b"i")
        said = await reader.read()
        writer.transport.abort()

    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in said


class Patient(BoundedProtocol):
    """As the gateway's, with less patience, though enough for a busy machine."""

    body_seconds = 0.8


async def test_a_body_in_time_ends_nothing() -> None:
    """The time begins anew with each request of a connection, and a body that came is not waited for."""
    async with served(Patient) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        answers = []
        for _ in range(2):
            writer.write(POST + b"Content-Length: 2\r\n\r\nh")
            await asyncio.sleep(0.02)
            writer.write(b"i")
            answers.append(await reader.readuntil(b"well"))
            await asyncio.sleep(0.9)
        writer.transport.abort()

    assert [b"200" in answer for answer in answers] == [True] * 2
