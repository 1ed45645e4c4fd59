"""The hosts that the gateway answers for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.rig import Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway that answers for some hosts only."""
    names = ("gateway.example", "*.internal.example", "[::1]")
    async with rigged(tmp_path_factory.mktemp("state"), allowed_hosts=names) as rig:
        yield rig


async def ask(rig: Rig, host: str | None, path: str = "/nothing") -> tuple[int, dict[str, str], bytes]:
    """A request for that host, or with no `Host` at all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rpartition(":")[2]))
    head = f"GET {path} HTTP/1.0\r\n" if host is None else f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    writer.write(f"{head}\r\n".encode())
    async with asyncio.timeout(10):
        start, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *fields = start.decode().split("\r\n")
    return int(status.split()[1]), dict(field.lower().split(": ", 1) for field in fields), body


@pytest.mark.parametrize(
    "host",
    ["gateway.example", "GATEWAY.Example:8443", "gateway.example.", "a.internal.example", "b.a.internal.example:80", "[::1]:8080"],
)
async def test_its_own_names_are_answered(strict: Rig, host: str) -> None:
    """In any case, with a port or without."""
    status, _, _ = await ask(strict, host)

    assert status == 404


@pytest.mark.parametrize(
    "host",
    ["other.example", "gateway.example.evil", "evil-gateway.example", "internal.example", "evilinternal.example", "127.0.0.1", None],
)
async def test_other_names_are_refused_with_a_problem(strict: Rig, host: str | None) -> None:
    """Whatever is asked of them; and the refusal is counted."""
    status, headers, body = await ask(strict, host)
    counted = {record["code"] for record in await strict.records() if record["name"] == "refusals:counted"}

    problem = json.loads(body)
    assert (status, problem["type"]) == (400, "/gateway/problems/host-not-allowed")
    assert headers["content-type"] == "application/problem+json"
    assert problem["instance"] == headers["x-request-id"]
    assert "host-not-allowed" in counted


@pytest.mark.parametrize("path", ["/gateway/health/live", "/gateway/health/ready"])
async def test_probes_are_answered_under_any_name(strict: Rig, path: str) -> None:
    """A probe calls the machine's address."""
    status, _, _ = await ask(strict, "10.1.2.3:8080", path)

    assert status == 200


async def test_without_the_setting_any_name_is_answered(tmp_path: Path) -> None:
    """The default asks nothing of whoever tries the gateway out."""
    async with rigged(tmp_path) as rig:
        status, _, _ = await ask(rig, "whatever.example")

    assert status == 404
