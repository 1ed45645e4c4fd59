"""The faults that only a real socket shows."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from app.simulator.app import create_simulator
from tests import loopback

from .serving import LINK_ORDER, TOKEN, Control, controlled, line_to, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Control]:
    """Serve one simulator for all these tests, with a rate that none of them reaches."""
    async with controlled(create_simulator([TOKEN], rate=1000)) as control:
        yield control


@pytest_asyncio.fixture(loop_scope="module")
async def control(running: Control) -> Control:
    """Return the served simulator, put back to its beginning."""
    await running.reset()
    return running


@pytest.mark.parametrize(("kind", "works"), [("reset-before", False), ("reset-after", True)])
async def test_a_reset_is_a_reset_and_the_work_is_done_or_not(control: Control, kind: str, *, works: bool) -> None:
    """The client sees a connection reset without a byte of an answer, whether or not the orders were linked."""
    await control.plan(kind=kind, count=1)

    async with line_to(control.address) as line:
        await line.ask()
        with pytest.raises(ConnectionResetError):
            await line.rest()

    assert await control.linked() == works
    assert await control.unanswered() == 1


async def test_a_http_client_sees_a_reset_as_a_failed_read(control: Control) -> None:
    """The reset reaches a client library as an error of the connection, not as an answer."""
    await control.plan(kind="reset-before")

    url = "http://{}:{}/account".format(*control.address)
    async with loopback.async_client() as client:
        with pytest.raises(httpx2.ReadError):
            await client.get(url, headers={"X-API-TOKEN": TOKEN.value})


async def test_a_connection_is_kept_alive_without_faults(control: Control) -> None:
    """Two requests share a connection, so that what the faults below end is not ended anyway."""
    async with line_to(control.address) as line:
        await line.ask()
        first = await line.head() + await line.read(len("[1001]"))
        await line.ask()
        second = await line.head() + await line.read(len("[]"))

    assert first.endswith(b"[1001]")
    assert second.endswith(b"[]")


async def test_close_ends_the_connection_after_a_true_answer(control: Control) -> None:
    """The answer is whole, says that the connection closes, and it does."""
    await control.plan(kind="close")

    async with line_to(control.address) as line:
        await line.ask()
        answer = await line.rest()

    assert b"connection: close" in answer
    assert answer.endswith(b"\r\n\r\n[1001]")


async def test_a_slow_body_sends_its_head_first_and_then_drips(control: Control) -> None:
    """The head comes before the body, which arrives piece by piece, whole."""
    await control.plan(kind="slow-body", delay=0.001, piece=4)

    async with line_to(control.address) as line:
        await line.ask()
        head = await line.head()
        body = await line.read(6)

    assert b"content-length: 6\r\n" in head
    assert body == b"[1001]"


async def test_raw_garbage_stands_in_the_place_of_http(control: Control) -> None:
    """The client reads exactly the given bytes, then the connection's end."""
    await control.plan(kind="garbage-http", raw="SMTP ready é\r\n")

    async with line_to(control.address) as line:
        await line.ask()
        received = await line.rest()

    assert received == "SMTP ready é\r\n".encode()
    assert not await control.linked()


async def test_a_http_client_cannot_parse_raw_garbage(control: Control) -> None:
    """The default garbage is a protocol error to a client library."""
    await control.plan(kind="garbage-http")

    url = "http://{}:{}/account".format(*control.address)
    async with loopback.async_client() as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(url, headers={"X-API-TOKEN": TOKEN.value})


async def test_a_limited_hang_ends_in_a_reset(control: Control) -> None:
    """A hang of limited length never turns into an answer."""
    await control.plan(kind="hang", seconds=0.001)

    async with line_to(control.address) as line:
        await line.ask()
        with pytest.raises(ConnectionResetError):
            await line.rest()

    assert not await control.linked()


async def test_a_hang_without_limit_never_answers(control: Control) -> None:
    """Nothing comes for as long as the client waits, and nothing is done."""
    await control.plan(kind="hang")

    async with line_to(control.address) as line:
        await line.ask()
        await until(control.unanswered)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.rest(), 0.01)

    assert not await control.linked()


async def test_a_client_that_leaves_before_its_body_ends_links_nothing(control: Control) -> None:
    """A request cut off within its body is not carried out."""
    cut_off = LINK_ORDER.replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n")

    async with line_to(control.address) as line:
        await line.ask(cut_off)
        await until(control.arrivals)
    await until(control.statuses)

    assert not await control.linked()


async def test_an_empty_chunked_body_is_no_body(control: Control) -> None:
    """What counts is whether a byte came, not how the request announced it."""
    chunked = LINK_ORDER.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")

    async with line_to(control.address) as line:
        await line.ask(chunked)
        await until(control.arrivals)
        await line.ask(b"0\r\n\r\n")
        head = await line.head()

    assert head.startswith(b"http/1.1 200")
