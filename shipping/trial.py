"""The trial of an image: what the demo shows, with the gateway in a container, before a simulated Flxpoint on this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from app.cli.steps import CALLER, STEPS, TOKEN, Step, answer_of, headers_of, is_expected
from shipping.contents import unwanted
from shipping.images import Images

__all__ = ["Failed", "look_into", "try_out"]

MOST_BYTES = 150_000_000
PATIENCE_SECONDS = 60.0
USER = 10001
STATE = "/var/lib/flxpoint-gateway"
RECORDED = {"token:added", "caller:added", "call:intent", "send:intent", "send:outcome", "call:outcome", "call:refused"}


class Failed(Exception):
    """The image didn't do what it must; the message says what."""


def look_into(images: Images, base: str) -> None:
    """Hold the image to its size above its base, and to what it may hold.

    Raises:
        Failed: it is too large, or holds what it shouldn't.
    """
    above = images.size(images.name) - images.size(base)
    _must(above <= MOST_BYTES, f"{above / 1e6:.0f} MB above its base, {MOST_BYTES / 1e6:.0f} MB at most")
    with images.opened() as root:
        found = unwanted(root)
    _must(not found, f"no compiler, no installer, no cache {found or ''}")


def try_out(images: Images, folder: Path) -> None:
    """Run the image before a simulator: a token, a caller, the demo's calls, their records, the proof, an end in order.

    Raises:
        Failed: something went otherwise.
        subprocess.CalledProcessError: a command in the container failed; standard error says why.
    """
    state = folder / "state"
    state.mkdir(mode=0o700)
    shutil.chown(state, USER, USER)
    trial = _Trial(images, state)
    value = secrets.token_urlsafe(32)
    trial.command("token", "add", TOKEN, "--kind", "account", given=value)
    key = json.loads(trial.command("caller", "add", CALLER, "--grant", TOKEN, "--json"))["key"]
    with ExitStack() as stack:
        upstream = stack.enter_context(_simulator(value))
        url = stack.enter_context(trial.served(upstream))
        _calls(url, key)
        trial.command("check", "--offline")
    names = {record["name"] for record in json.loads(trial.command("audit", "list", "--limit", "1000", "--json"))}
    _must(names >= RECORDED, f"on record: {', '.join(sorted(names))}")
    proof = trial.command("audit", "verify").strip()
    _must(proof.startswith("all holds"), proof)


class _Trial:
    """The image, with a state folder that outlives its containers."""

    def __init__(self, images: Images, state: Path) -> None:
        self._images = images
        self._volume = f"--volume={state}:{STATE}"

    def command(self, *arguments: str, given: str = "") -> str:
        """What a command in a container prints, with `given` on its standard input."""
        command = [*self._images.run_command(self._volume), *arguments]
        return subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 - our own

    @contextmanager
    def served(self, upstream: str) -> Iterator[str]:
        """The gateway's address, while it serves in a container; it must end with status 0 when it is told to."""
        port = _free_port()
        settings = {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "GATEWAY_UPSTREAM_URL": upstream}
        variables = [f"--env={name}={value}" for name, value in settings.items()]
        url = f"http://127.0.0.1:{port}"
        with _running(self._images.run_command(self._volume, *variables), f"{url}/gateway/health/ready") as process:
            yield url
        _must(process.returncode == 0, f"ended with status {process.returncode}")


@contextmanager
def _simulator(value: str) -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "app.cli", "simulate", "--port", str(port), "--token", f"{TOKEN}={value}:account"]
    with _running(command, f"http://127.0.0.1:{port}/_simulator/statistics"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: Sequence[str], ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, once an address of its answers; told to end afterwards."""
    with subprocess.Popen(command, env=os.environ, stdin=subprocess.DEVNULL) as process:  # noqa: S603 - our own
        try:
            _until(lambda: _answers(process, ready))
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    if process.poll() is not None:
        message = f"ended with status {process.returncode} instead of serving"
        raise Failed(message)
    try:
        return httpx2.get(url, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            message = f"not ready within {PATIENCE_SECONDS:g} s"
            raise Failed(message)
        time.sleep(0.1)


def _calls(url: str, key: str) -> None:
    with httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
        for step in STEPS:
            _call(client, step, key)


def _call(client: httpx2.Client, step: Step, key: str) -> None:
    response = client.patch("/orders/link", params=step.query or None, content=step.body, headers=headers_of(step, key))
    _must(is_expected(step, response), f"{step.what}: {response.status_code} {answer_of(response)}")


def _must(holds: bool, what: str) -> None:  # noqa: FBT001 - what is asked
    print(f"{'ok' if holds else 'FAILED'}  {what}", flush=True)
    if not holds:
        raise Failed(what)
