"""The server beneath the simulator."""

import asyncio
import itertools
import logging

import pytest
import uvloop

from app.simulator.app import create_simulator
from app.simulator.protocol import server_config

from .clock import Clock
from .serving import LINK_ORDER, TOKEN, controlled, line_to, served, until


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_configuration_serves_where_it_was_told() -> None:
    """Host, port and the life of idle connections are the caller's to choose."""
    config = server_config(create_simulator([TOKEN]), "127.0.0.2", 8123, keep_alive=3)

    assert (config.host, config.port, config.timeout_keep_alive) == ("127.0.0.2", 8123, 3)


async def test_an_arrival_is_stamped_when_its_head_is_complete() -> None:
    """The time is the simulator's clock's at the last header, not when the app got round to it or the body ended."""
    clock = Clock(50.0)
    request = LINK_ORDER.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n")
    app = create_simulator([TOKEN], clock=clock)
    async with controlled(app) as control, line_to(control.address) as line:
        await line.ask(request[:40])
        clock.advance(1)
        await line.ask(request[40:])
        await until(control.arrivals)
        clock.advance(1)
        await line.ask(b"{}")
        await line.head()

    assert app.state.simulator.ledger.arrivals("main") == [51.0]


async def test_an_arrival_is_stamped_once() -> None:
    """Time that passes between the last header and the app's turn doesn't make a request later."""
    app = create_simulator([TOKEN], clock=itertools.count(50.0).__next__)
    async with served(app) as address, line_to(address) as line:
        await line.ask()
        await line.head()

    assert app.state.simulator.ledger.arrivals("main") == [50.0]


async def test_a_latency_moves_an_arrival_on_a_socket_too() -> None:
    """A request that a latency delays arrives at the delay's end, whenever its head was read."""
    clock = Clock(50.0)
    app = create_simulator([TOKEN], clock=clock, sleep=clock.sleep)
    async with controlled(app) as control, line_to(control.address) as line:
        await control.plan(kind="latency", out=0.5)
        await line.ask()
        await line.head()

    assert app.state.simulator.ledger.arrivals("main") == [50.5]


async def test_a_reset_of_a_connection_already_lost_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A client may hang up before the reset that was meant for it."""
    released = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await released.wait()

    async with controlled(create_simulator([TOKEN], sleep=sleep)) as control:
        await control.plan(kind="latency", back=1)
        await control.plan(kind="reset-before")
        async with line_to(control.address) as line:
            await line.ask()
            await until(control.unanswered)
        await control.arrivals()
        released.set()
        await control.arrivals()

    assert errors(caplog) == []


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "slow-body", "delay": 3600}])
async def test_a_fault_ends_when_its_client_hangs_up(caplog: pytest.LogCaptureFixture, fault: dict[str, object]) -> None:
    """An endless fault doesn't outlive its client: the server stops without having to cut anything short."""
    async with controlled(create_simulator([TOKEN])) as control:
        await control.plan(**fault)
        async with line_to(control.address) as line:
            await line.ask()
            await until(control.arrivals)

    assert errors(caplog) == []


async def test_a_server_stops_though_a_request_hangs() -> None:
    """An endless hang doesn't keep the simulator from stopping."""
    async with asyncio.timeout(10):
        async with controlled(create_simulator([TOKEN])) as control:
            await control.plan(kind="hang")
            reader, writer = await asyncio.open_connection(*control.address)
            writer.write(LINK_ORDER)
            await until(control.unanswered)
        rest = await reader.read()
    writer.transport.abort()

    assert not rest.startswith(b"HTTP/1.1 200")


def test_resets_are_real_under_uvloop_too() -> None:
    """The command line runs on uvloop, whose transports are not asyncio's."""

    async def reset_by_a_fault() -> None:
        async with controlled(create_simulator([TOKEN])) as control, line_to(control.address) as line:
            await control.plan(kind="reset-before")
            await line.ask()
            with pytest.raises(ConnectionResetError):
                await line.rest()

    uvloop.run(reset_by_a_fault())
