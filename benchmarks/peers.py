"""The same question put to others: each paces as many queued calls of a token of its own, straight at a simulator.

nginx's `limit_req` with a queue, three limiters from PyPI, and a window by the time of sending, without a guard. They count what is
released, not what arrives, and heed no answers; so over loopback they are at their best. Each also paces, at the same time, calls that go
over the slow network of the benchmark `pacing`. All peers go at the same time, each a process of its own before a simulator of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path

from benchmarks.client import request_bytes
from benchmarks.crowd import ask_all, wrong
from benchmarks.figures import Figure, Report
from benchmarks.limiters import LIMITERS
from benchmarks.nginx import MISSING, nginx_program, nginx_version, proxied
from benchmarks.pacing import SLOW_NETWORK
from benchmarks.processes import PROJECT, Child, free_address, spawned
from benchmarks.recorder import Recorder
from benchmarks.scale import Scale
from benchmarks.stage import Cast, simulated
from benchmarks.upstream import FIRST_ORDER, token_value
from benchmarks.windows import breaches, most_in_any_window, utilisation

__all__ = ["measure"]

PINNED = ("aiolimiter==1.3.0", "pyrate-limiter==4.5.1")
"""No dependencies of ours, so they are installed beside us; `limits` is one."""
PLACE = PROJECT / ".peers"
TOKENS = ("near", "far")
OURS = "window"


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a peer on one network: its arrivals, how many were answered 429, and how many calls got no right answer."""

    title: str
    arrivals: list[float]
    refused: int
    wrong: int


async def measure(scale: Scale) -> Report:
    """Measure those that are installed, or can be."""
    remarks = [*_install(), "nothing was pinned"]
    names = {name: title for name in LIMITERS if (title := _title(name))}
    remarks += [f"{name}: not installed, so not measured" for name in LIMITERS if name not in names]
    program = nginx_program()
    runs = [_limiter(name, title, scale) for name, title in names.items()]
    runs += [_nginx(program, scale)] if program else []
    remarks += [] if program else [MISSING]
    found = [one for several in await asyncio.gather(*runs) for one in several]
    details = {one.title: [round(time - one.arrivals[0], 4) for time in one.arrivals] for one in found}
    figures = [figure for one in found for figure in _figures(one)]
    return Report(f"peers: others with {scale.peers} queued calls, straight at the simulator", figures, remarks, {"arrivals_s": details})


def _install() -> list[str]:
    """Install the peers into a folder of their own, if they aren't there; gives a remark where that fails."""
    installed = {f"{one.name}=={one.version}" for one in distributions(path=[str(PLACE)])}
    if set(PINNED) <= installed:
        return []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
    done = subprocess.run([*command, "--target", str(PLACE), *PINNED], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f"the peers could not be installed: {done.stderr.strip().splitlines()[-1]}"]


def _title(name: str) -> str | None:
    """The peer with its version; None where it isn't installed."""
    if name == OURS:
        return "window by the time of sending"
    if name == "limits":
        return f"limits {version(name)}"
    found = [one.version for one in distributions(path=[str(PLACE)]) if one.name == name]
    return f"{name} {found[0]}" if found else None


async def _limiter(name: str, title: str, scale: Scale) -> list[Found]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        simulator, recorder = await _upstream(stack, Path(folder), scale)
        arguments = ["-m", "benchmarks.limiters", name, simulator.address.url, str(scale.peers), *TOKENS]
        log = Path(folder) / "limiter.log"
        peer = stack.enter_context(spawned(arguments, free_address(), log, {"PYTHONPATH": str(PLACE)}))
        await peer.ended()
        return await _found(title, recorder, [int(line) for line in log.read_text(encoding="ascii").split()])


async def _nginx(program: str, scale: Scale) -> list[Found]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        simulator, recorder = await _upstream(stack, Path(folder), scale)
        peer = stack.enter_context(proxied(program, Path(folder), simulator.address, limited=True))
        await peer.ready("/_simulator/health")
        failed = await asyncio.gather(*(_through(peer, token, place, scale) for place, token in enumerate(TOKENS)))
        return await _found(f"{nginx_version(program)} limit_req", recorder, failed)


async def _upstream(stack: ExitStack, folder: Path, scale: Scale) -> tuple[Child, Recorder]:
    simulator = stack.enter_context(simulated(folder, Cast(tokens=TOKENS, orders=len(TOKENS) * scale.peers)))
    await simulator.ready("/_simulator/health")
    recorder = Recorder(simulator.address)
    await recorder.network([TOKENS[1]], SLOW_NETWORK, SLOW_NETWORK)
    return simulator, recorder


async def _through(peer: Child, token: str, place: int, scale: Scale) -> int:
    """Make a token's calls at once; gives how many got no right answer."""
    orders = range(FIRST_ORDER + place * scale.peers, FIRST_ORDER + (place + 1) * scale.peers)
    headers = {"X-API-TOKEN": token_value(token)}
    requests = [request_bytes("PATCH", f"/orders/link?orderIds={order}", peer.address, headers) for order in orders]
    return wrong(await ask_all(peer.address, requests), orders)


async def _found(title: str, recorder: Recorder, failed: Sequence[int]) -> list[Found]:
    near, far = await recorder.arrivals(*TOKENS)
    return [
        Found(title, near, await recorder.refused(TOKENS[0]), failed[0]),
        Found(f"{title}, 20-60 ms each way", far, await recorder.refused(TOKENS[1]), failed[1]),
    ]


def _figures(found: Found) -> list[Figure]:
    most = most_in_any_window(found.arrivals)
    beside = f"utilisation {utilisation(found.arrivals):.3f}, answered 429: {found.refused}, most in a second {most}"
    return [
        Figure(f"{found.title}: arrivals that broke a window", breaches(found.arrivals), "", None, beside),
        Figure(f"{found.title}: utilisation", utilisation(found.arrivals)),
        Figure(f"{found.title}: answered 429", found.refused),
        Figure(f"{found.title}: calls without their answer", found.wrong),
    ]
