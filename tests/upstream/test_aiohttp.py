"""What the wire relies on of aiohttp's connector and protocol, which aiohttp doesn't promise: an update that changes it fails here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yarl

from tests.upstream.peers import answering

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]"


@dataclass
class Line:
    """A connector, and the other end of the connection that it made first."""

    connector: aiohttp.TCPConnector
    destination: aiohttp.ClientRequest
    peer: asyncio.Future[asyncio.StreamWriter]

    def connecting(self) -> Coroutine[Any, Any, Connection]:
        """A connection, as the wire asks for one."""
        return self.connector.connect(self.destination, [], aiohttp.ClientTimeout(connect=1))

    async def says(self, said: bytes) -> None:
        """Have the peer say something, and let it come."""
        (await self.peer).write(said)
        await asyncio.sleep(0.05)

    async def hangs_up(self) -> None:
        """Have the peer close, and let it come."""
        (await self.peer).close()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def lined() -> AsyncIterator[Line]:
    """A connector, and a peer that says what the test has it say."""
    peer: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not peer.done():
            peer.set_result(writer)
        await reader.read()

    async with answering(answer) as url:
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0)
        yield Line(connector, aiohttp.ClientRequest("GET", yarl.URL(url), loop=asyncio.get_running_loop()), peer)
        await connector.close()


def protocol_of(connection: Connection) -> ResponseHandler:
    """A connection's protocol, which it has until it is given back."""
    protocol = connection.protocol
    assert protocol is not None  # its length is that of what it has read, so it is often false
    return protocol


def expect_answer(protocol: ResponseHandler) -> None:
    """Have it read an answer, as the wire does."""
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)


async def answered(line: Line, connection: Connection) -> ResponseHandler:
    """A protocol that has read a whole answer."""
    protocol = protocol_of(connection)
    expect_answer(protocol)
    await line.says(ANSWER)
    _, content = await protocol.read()
    assert await content.read() == b"[1]"
    return protocol


@pytest.mark.parametrize("said", [ANSWER, ANSWER[:9], b"\n"], ids=["an answer", "a part of one", "anything"])
async def test_a_new_connection_on_which_something_came_should_be_closed(said: bytes) -> None:
    """Before an answer is expected a single byte is enough; where nothing came the connection is good."""
    async with lined() as line:
        connection = await line.connecting()
        before = protocol_of(connection).should_close
        await line.says(said)
        after = protocol_of(connection).should_close
        connection.close()

    assert (before, after) == (False, True)


async def test_a_used_connection_on_which_an_answer_came_unasked_should_be_closed() -> None:
    """After an answer that was read the connection is good, until another comes."""
    async with lined() as line:
        connection = await line.connecting()
        protocol = await answered(line, connection)
        before = protocol.should_close
        await line.says(ANSWER)
        after = protocol.should_close
        connection.close()

    assert (before, after) == (False, True)


@pytest.mark.parametrize("used", [False, True])
async def test_a_connection_that_the_peer_closed_should_be_closed(used: bool) -> None:  # noqa: FBT001 - a column of the table
    """Whether it was used before or not."""
    async with lined() as line:
        connection = await line.connecting()
        protocol = await answered(line, connection) if used else protocol_of(connection)
        await line.hangs_up()
        after = protocol.should_close
        connection.close()

    assert after


@pytest.mark.parametrize("said", [ANSWER[:-1], ANSWER + ANSWER], ids=["less", "more"])
async def test_a_connection_with_less_or_more_than_an_answer_should_be_closed(said: bytes) -> None:
    """When the head was read and the body isn't whole yet, or another answer followed."""
    async with lined() as line:
        connection = await line.connecting()
        protocol = protocol_of(connection)
        expect_answer(protocol)
        await line.says(said)
        await protocol.read()
        after = protocol.should_close
        connection.close()

    assert after


async def test_a_kept_connection_is_given_at_once_with_the_protocol_that_it_had() -> None:
    """Without letting others run, so that throwing the kept ones away comes to an end."""
    async with lined() as line:
        first = await line.connecting()
        protocol = await answered(line, first)
        first.release()
        with pytest.raises(StopIteration) as given:
            line.connecting().send(None)
        second: Connection = given.value.value
        again = protocol_of(second)
        second.close()

    assert again is protocol


async def test_a_connection_that_was_aborted_is_not_kept() -> None:
    """Its protocol is aborted before it is given back, as the wire does with an answer that may be another send's."""
    async with lined() as line:
        first = await line.connecting()
        protocol = await answered(line, first)
        protocol.abort()
        first.close()
        second = await line.connecting()
        again = protocol_of(second)
        second.close()

    assert again is not protocol
    assert protocol.transport is None
