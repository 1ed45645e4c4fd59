"""The socket for commands of this machine: its owner's alone, made anew after a crash, and nothing that calls depend on."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from app.cli import control
from app.cli.control import control_path, controlled, fits
from app.main import create_control
from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


def mode_of(path: Path) -> int:
    """Who may do what with it."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def permissive() -> Iterator[None]:
    """With files that are everybody's."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@asynccontextmanager
async def client_of(path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client at the socket."""
    transport = httpx2.AsyncHTTPTransport(uds=str(path), trust_env=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway", trust_env=False) as client:
        yield client


async def test_the_socket_is_never_open_to_others(tmp_path: Path) -> None:
    """From the moment that it has a name, whatever files are otherwise made like, only its owner may open it."""
    path = control_path(tmp_path)
    with permissive():
        listening = control._listening(path)  # before it listens, which the public face doesn't show
        first = mode_of(path)
        listening.close()
        (tmp_path / "after").touch()

    assert first == 0o600
    assert mode_of(tmp_path / "after") == 0o666


async def test_commands_are_answered_at_the_socket(rig: Rig, tmp_path: Path) -> None:
    """The lanes are shown and a token resumed without a credential; the record says which user it was."""
    path = control_path(tmp_path)
    async with controlled(path, create_control(rig.app)), client_of(path) as client:
        mode = mode_of(path)
        lanes = await client.get("/lanes")
        resumed = await client.post("/lanes/shop/resume")

    assert mode == 0o600
    assert [lane["token"] for lane in lanes.json()] == ["shop"]
    assert resumed.json() == {"token": "shop", "operations": []}
    [record] = [record for record in await rig.records() if record["name"] == "token:resumed"]
    assert (record["by"], record["subject"], record["operations"]) == (f"control:{os.getuid()}", "shop", [])
    assert not path.exists()


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("POST /lanes/none/resume", 404, "not-found"),
        ("GET /lanes/shop/resume", 405, "method-not-allowed"),
        ("GET /gateway/admin/lanes", 404, "not-found"),
        ("PATCH /orders/link?orderIds=1", 404, "not-found"),
        ("GET /lanes/../lanes%2f", 404, "not-found"),
    ],
)
async def test_what_the_socket_doesnt_offer_is_a_problem(rig: Rig, tmp_path: Path, asked: str, status: int, code: str) -> None:
    """Commands have their two requests; all else, calls included, is refused as elsewhere."""
    async with controlled(control_path(tmp_path), create_control(rig.app)), client_of(control_path(tmp_path)) as client:
        answer = await client.request(*asked.split())

    assert (answer.status_code, answer.json()["type"]) == (status, f"/gateway/problems/{code}")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_socket_left_by_a_crash_is_replaced(rig: Rig, tmp_path: Path) -> None:
    """A socket that nobody listens at any more, open to everybody, gives way to one that is private."""
    path = control_path(tmp_path)
    with permissive(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    before = mode_of(path)

    async with controlled(path, create_control(rig.app)), client_of(path) as client:
        answer = await client.get("/lanes")
        after = mode_of(path)

    assert (before, after, answer.status_code) == (0o777, 0o600, 200)


async def test_what_is_no_socket_is_left_alone(rig: Rig, tmp_path: Path) -> None:
    """Another file in the socket's place stays as it is; the gateway goes on without the socket and says why."""
    path = control_path(tmp_path)
    path.write_text("mine", encoding="utf-8")
    with capture_logs() as lines:
        async with controlled(path, create_control(rig.app)):
            pass

    assert path.read_text(encoding="utf-8") == "mine"
    assert [(line["log_level"], line["reason"]) for line in lines] == [("warning", "another file is in its place")]


async def test_the_longest_path_is_the_kernels(rig: Rig, tmp_path: Path) -> None:
    """A path of 107 bytes makes a socket; one of 108 makes none, which is told with the number, and nothing else fails."""
    room = 107 - len(os.fsencode(tmp_path)) - 1
    longest, too_long = tmp_path / ("é" + "s" * (room - 2)), tmp_path / ("s" * (room + 1))
    async with controlled(longest, create_control(rig.app)), client_of(longest) as client:
        answer = await client.get("/lanes")
    with capture_logs() as lines:
        async with controlled(too_long, create_control(rig.app)):
            made = too_long.exists()

    assert (answer.status_code, made) == (200, False)
    assert fits(longest) is None
    assert [line["reason"] for line in lines] == ["its path has 108 bytes, and a Unix socket's may have 107"]


async def test_the_socket_outlives_nothing(rig: Rig, tmp_path: Path) -> None:
    """Also where serving fails, the socket is gone afterwards."""
    path = control_path(tmp_path)

    async def fail() -> None:
        async with controlled(path, create_control(rig.app)):
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    assert not path.exists()


async def test_commands_hold_up_no_shutdown(rig: Rig, tmp_path: Path) -> None:
    """A connection that asks for nothing doesn't keep the server."""
    path = control_path(tmp_path)
    async with controlled(path, create_control(rig.app)):
        _, writer = await asyncio.open_unix_connection(str(path))
    writer.close()

    assert not path.exists()
