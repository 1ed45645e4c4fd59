"""The image's health check: its own command, run against real servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from app.cli.certificate import Certificate
from app.cli.serving import free_port, gateway_config, in_background
from tests.servers.authority import Authority

REPOSITORY = Path(__file__).parent.parent
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


async def checked(**variables: str) -> tuple[int, str]:
    """Run the health check as the container does, and with a proxy in its environment; its status, and what it says."""
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n  CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    python, *arguments = json.loads(command)
    assert python == "python3"
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=given | variables, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def answered(status: int, tls: ssl.SSLContext | None, **variables: str) -> tuple[int, str]:
    """The health check against a server that answers with this status."""
    listening = free_port()
    port = listening.getsockname()[1]
    config = gateway_config(PlainTextResponse("", status), host="127.0.0.1", port=0, grace=0, tls=tls)
    async with in_background(config, listening):
        return await checked(GATEWAY_PORT=str(port), **variables)


@pytest.mark.parametrize("secured", [False, True])
async def test_a_gateway_that_is_ready_is_healthy(tmp_path: Path, *, secured: bool) -> None:
    """With a certificate too, whoever made it and for whatever name."""
    cert, key = Authority(tmp_path).make(tmp_path / "pair", "gateway")
    tls, variables = (Certificate(cert, key).context, {"GATEWAY_TLS_CERT": str(cert)}) if secured else (None, {})

    assert await answered(200, tls, **variables) == (0, "")
    assert await answered(503, tls, **variables) == (1, "not ready: 503\n")


async def test_a_gateway_that_isnt_there_isnt_healthy() -> None:
    """Nothing but a line is said."""
    with free_port() as nobody:
        port = nobody.getsockname()[1]
    status, said = await checked(GATEWAY_PORT=str(port))

    assert status == 1
    assert re.fullmatch(r"not reached: .*\n", said)
