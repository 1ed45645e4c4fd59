"""What a stalled process, and connections that never last, do to the limit: nothing. Gateway and simulator are processes of their own."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.callers import GrantAsked, NewCaller
from app.cli.state import administer
from app.domain import TokenKind, TokenValue
from app.vault import NewToken
from tests import loopback
from tests.cli.processes import Process, free_port, started, unmeasured

VALUE = "a-simulated-token-value-0001"
CALLS = 8


@dataclass
class Pair:
    """A gateway before a simulator, each a process, and a caller's key."""

    gateway: Process
    url: str
    upstream: str
    key: str

    def link(self, order: int) -> int:
        """One call; its status."""
        answer = loopback.patch(f"{self.url}/orders/link?orderIds={order}", headers={"X-API-TOKEN": self.key}, timeout=60)
        return answer.status_code

    def arrivals(self) -> list[float]:
        """When requests arrived at the simulator; monotonic seconds."""
        times: list[float] = loopback.get(f"{self.upstream}/_simulator/arrivals?token=shop").json()
        return times

    def plan(self, fault: dict[str, Any]) -> None:
        """Order a fault at the simulator."""
        loopback.post(f"{self.upstream}/_simulator/faults", json=fault).raise_for_status()


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Both, started and ready."""
    ports = free_port(), free_port()
    upstream, url = (f"http://127.0.0.1:{port}" for port in ports)
    variables = unmeasured(STATE_DIR=tmp_path / "state", UPSTREAM_URL=upstream)
    monkeypatch.setenv("GATEWAY_STATE_DIR", str(tmp_path / "state"))
    administer(lambda administration: administration.add_token(NewToken("shop", TokenKind.ACCOUNT, TokenValue(VALUE))))
    _, key = administer(lambda administration: administration.add_caller(NewCaller("service", (GrantAsked("shop"),))))
    simulate = ("simulate", "--port", str(ports[0]), "--token", f"shop={VALUE}:account")
    with ExitStack() as stack:
        simulator = stack.enter_context(started(*simulate, variables=unmeasured(), folder=tmp_path / "simulate"))
        simulator.wait_for(f"{upstream}/_simulator/health")
        gateway = stack.enter_context(started("serve", "--port", str(ports[1]), variables=variables, folder=tmp_path / "serve"))
        gateway.wait_for(f"{url}/gateway/health/ready")
        yield Pair(gateway, url, upstream, key.reveal())


def calls_while(pair: Pair, meanwhile: threading.Timer | None = None) -> list[int]:
    """Many calls at once; their statuses."""
    with ThreadPoolExecutor(CALLS) as pool:
        if meanwhile:
            meanwhile.start()
        return list(pool.map(pair.link, range(1001, 1001 + CALLS)))


def most_in_a_second(times: list[float]) -> int:
    """The most arrivals in any window of a second, with no tolerance."""
    return max(sum(start <= one < start + 1 for one in times) for start in times)


def test_a_process_that_stalls_for_three_seconds_breaks_no_window(pair: Pair) -> None:
    """Stopped in the middle of its work and let go again, it sends nothing on what it thought was its turn."""

    def stall() -> None:
        os.kill(pair.gateway.process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(pair.gateway.process.pid, signal.SIGCONT)

    statuses = calls_while(pair, threading.Timer(2.3, stall))
    arrivals = sorted(pair.arrivals())

    assert statuses == [200] * CALLS
    assert most_in_a_second(arrivals) <= 2
    assert max(later - earlier for earlier, later in itertools.pairwise(arrivals)) > 2


def test_connections_that_close_after_each_answer_break_no_window(pair: Pair) -> None:
    """Each send makes its own connection before its turn, and is written at its turn."""
    pair.plan({"kind": "close"})
    statuses = calls_while(pair)
    arrivals = pair.arrivals()

    assert statuses == [200] * CALLS
    assert len(arrivals) == CALLS
    assert most_in_a_second(arrivals) <= 2
