"""`serve` and `simulate` as real processes: starting, changes while they serve, stopping, starting again."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.callers import CallerRow, GatewayKey, GrantAsked, NewCaller
from app.cli.state import administer
from app.domain import TokenKind, TokenRef, TokenValue
from app.vault import NewToken
from tests import loopback

from .processes import Process, environment, free_port, started, unmeasured, until
from .shell import Ran, Shell

TOKENS = {f"token-{number}": f"a-simulated-token-value-000{number}" for number in range(6)}


@dataclass
class Served:
    """A simulator and a gateway before it, in processes of their own, on one state folder."""

    folder: Path
    upstream: str
    stack: ExitStack
    port: int = field(default_factory=free_port)
    starts: int = 0
    addresses: Iterator[int] = field(default_factory=lambda: cycle(range(256)))
    gateway: Process = field(init=False)

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_dir(self) -> Path:
        """The gateway's state folder."""
        return self.folder / "state"

    @property
    def variables(self) -> dict[str, str]:
        """What the gateway's process is given."""
        return environment(STATE_DIR=self.state_dir, UPSTREAM_URL=self.upstream, TRUSTED_PROXIES="127.0.0.1/32")

    def start(self) -> None:
        """Start the gateway and wait until it is ready."""
        self.starts += 1
        folder = self.folder / f"start-{self.starts}"
        self.gateway = self.stack.enter_context(started("serve", "--port", str(self.port), variables=self.variables, folder=folder))
        self.gateway.wait_for(f"{self.url}/gateway/health/ready")

    def link(self, key: str, ids: str = "1001") -> httpx2.Response:
        """A call with a key."""
        headers = {"Authorization": f"Bearer {key}"}
        return loopback.patch(f"{self.url}/orders/link", params={"orderIds": ids}, headers=headers, timeout=30)

    def refused_as(self, key: str, code: str) -> bool:
        """Whether a call with a key that waits for a second at most is refused with this code; each time from an address of its own."""
        headers = {"X-API-TOKEN": key, "Prefer": "wait=1", "X-Forwarded-For": f"192.0.2.{next(self.addresses)}"}
        answer = loopback.patch(f"{self.url}/orders/link?orderIds=1", headers=headers)
        return bool(answer.is_error) and str(answer.json()["type"]).endswith(f"/{code}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that serves, for the whole file."""
    folder = tmp_path_factory.mktemp("serve")
    port = free_port()
    tokens = [argument for name, value in TOKENS.items() for argument in ("--token", f"{name}={value}:account")]
    with ExitStack() as stack:
        simulating = started("simulate", "--port", str(port), *tokens, variables=unmeasured(), folder=folder / "simulate")
        simulator = stack.enter_context(simulating)
        served = Served(folder, f"http://127.0.0.1:{port}", stack)
        served.start()
        simulator.wait_for(f"{served.upstream}/_simulator/statistics")
        yield served


@pytest.fixture
def state(served: Served, shell_of: Callable[[Path], Shell]) -> Served:
    """The gateway that serves, while commands of this process work on its state."""
    shell_of(served.state_dir)
    return served


def admit(state: Served, name: str) -> tuple[TokenRef, str]:
    """A token that the simulator knows and a caller that may use it, added by commands; its key once the gateway knows it."""
    new = NewToken(name, TokenKind.ACCOUNT, TokenValue(TOKENS[name]))
    token = administer(lambda administration: administration.add_token(new)).token
    caller = NewCaller(f"caller-of-{name}", (GrantAsked(name),))
    made: tuple[CallerRow, GatewayKey] = administer(lambda administration: administration.add_caller(caller))
    key = made[1].reveal()
    until(lambda: not state.refused_as(key, "credentials-invalid"), within=5)
    return token, key


def test_a_call_goes_all_the_way(state: Served) -> None:
    """What commands added while it serves is used by the running gateway: the simulator links the order."""
    _, key = admit(state, "token-0")

    answer = state.link(key, "1002,1003")

    assert (answer.status_code, answer.json()) == (200, [1002, 1003])


def test_the_master_key_is_its_owners_alone(served: Served) -> None:
    """The key file that `serve` made is readable by its owner only, and its making was told."""
    path = served.state_dir / "master.keys"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "a master key was made" in (served.folder / "start-1" / "err").read_text(encoding="utf-8")


def test_the_log_is_json_without_secrets(state: Served) -> None:
    """Each line of the log is a JSON object, and neither a key, nor a token's value, nor a call's IDs are in any."""
    _, key = admit(state, "token-1")
    state.link(key, "1777001")

    text = state.gateway.err
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "level", "logger", "timestamp"} <= set(line) for line in lines)
    assert "starting to serve" in [line["event"] for line in lines]
    assert not any(secret in text for secret in (key[17:], "1777001", *TOKENS.values()))


def test_changes_reach_the_running_gateway(state: Served) -> None:
    """A token that a command disabled is used no more, and a caller that one removed is known no more, without a restart."""
    token, key = admit(state, "token-2")

    administer(lambda administration: administration.set_token_enabled(token.name, enabled=False))
    until(lambda: state.refused_as(key, "token-unavailable"), within=5)
    administer(lambda administration: administration.remove_caller(f"caller-of-{token.name}"))
    until(lambda: state.refused_as(key, "credentials-invalid"), within=5)

    assert state.gateway.process.poll() is None


def test_a_changed_token_is_paced_anew_by_the_running_gateway(state: Served, shell_of: Callable[[Path], Shell]) -> None:
    """`token set` reaches the lane of a running gateway within 2 s, without a restart."""
    shell = shell_of(state.state_dir)
    administer(lambda administration: administration.add_token(NewToken("paced", TokenKind.ACCOUNT, TokenValue("a-token-value-paced"))))

    def is_paced(*bounds: object) -> bool:
        lanes = {lane["token"]: lane for lane in shell("lanes", "--json").document}
        return "paced" in lanes and tuple(lanes["paced"][name] for name in ("rate", "burst", "pacing")) == bounds

    until(lambda: is_paced(2, "window", "learned"), within=5)
    assert shell("token", "set", "paced", "--rate", "7", "--burst", "spaced", "--pacing", "proven").status == 0
    until(lambda: is_paced(7, "spaced", "proven"), within=2)


def test_a_second_server_on_the_same_state_is_refused(served: Served, shell_of: Callable[[Path], Shell]) -> None:
    """Two processes on one state would break the upstream's limit, so the second is refused and says which process serves."""
    ran = shell_of(served.state_dir)("serve", "--port", "0")

    holder = served.gateway.process.pid
    line = f"another flxpoint-gateway (process {holder}) serves from {served.state_dir}: one process a state folder and database"
    assert ran == Ran(2, "", line + "\n")
    assert served.gateway.process.poll() is None


def test_the_state_survives_a_restart(state: Served, shell_of: Callable[[Path], Shell]) -> None:
    """SIGTERM ends the gateway with status 0, and started again it knows the same tokens, callers and record."""
    token, key = admit(state, "token-3")
    first = state.link(key, "1010")

    status = state.gateway.stop()
    state.start()
    second = state.link(key, "1010")

    assert status == 0
    assert (first.json(), second.json()) == ([1010], [])
    assert second.headers["Gateway-Token"] == token.name
    shown = shell_of(state.state_dir)("audit", "list", "--json", "--code", "ok", "--token", token.name, "--order", "1010").document
    assert [record["request_id"] for record in shown] == [answer.headers["X-Request-ID"] for answer in (second, first)]


def test_a_second_signal_cuts_nothing_short(state: Served, shell_of: Callable[[Path], Shell]) -> None:
    """While the gateway ends in order, another SIGTERM leaves it to it: a send under way is awaited, and its outcome is on record."""
    _, key = admit(state, "token-4")
    until(lambda: state.link(key, "1020").status_code == httpx2.codes.OK)
    slow = [{"kind": "latency", "out": 0, "back": 4, "count": 1}]
    loopback.post(f"{state.upstream}/_simulator/faults", json=slow).raise_for_status()
    impatient = httpx2.Timeout(30, read=2)
    with pytest.raises(httpx2.ReadTimeout):
        loopback.patch(f"{state.url}/orders/link?orderIds=1021", headers={"X-API-TOKEN": key}, timeout=impatient)
    state.gateway.process.terminate()
    until(lambda: not answers(state.url))
    state.gateway.process.terminate()
    status = state.gateway.process.wait(30)
    said = state.gateway.err
    state.start()

    shell = shell_of(state.state_dir)
    sends = shell("audit", "list", "--json", "--name", "send:outcome", "--token", "token-4").document
    assert status == 0
    assert "stopping already" in said
    assert (sends[0]["result"], sends[0]["linked_ids"]) == ("linked", ["1021"])


def answers(url: str) -> bool:
    """Whether somebody listens there."""
    try:
        loopback.get(f"{url}/gateway/health/live")
    except httpx2.TransportError:
        return False
    return True


def test_whoever_follows_a_job_holds_no_stop_up(state: Served) -> None:
    """At SIGTERM its stream ends with when to come back, though the job is far from its end, and the gateway ends in order."""
    _, key = admit(state, "token-5")
    headers = {"Authorization": f"Bearer {key}"}
    wanted = {"operation": "link-orders", "parameter": "orderIds", "ids": list(range(1, 5_001))}
    with loopback.client(base_url=state.url, headers=headers, timeout=30) as client:
        location = client.post("/gateway/batches", json=wanted).headers["Location"]
        with client.stream("GET", f"{location}/events") as answer:
            lines = answer.iter_lines()
            assert any(line == "event: progress" for line in lines)
            status = state.gateway.stop()
            *_, last, _ = list(lines)
    state.start()

    assert status == 0
    assert last.startswith("retry: ")


def test_the_simulator_ends_in_order(tmp_path: Path) -> None:
    """`simulate` knows the tokens that it was given, or one of its own, and ends with status 0 on SIGTERM."""
    port = free_port()
    with started("simulate", "--port", str(port), variables=environment(), folder=tmp_path) as simulator:
        simulator.wait_for(f"http://127.0.0.1:{port}/_simulator/statistics")
        url, headers = f"http://127.0.0.1:{port}/orders/link?orderIds=1001", {"X-API-TOKEN": "simulated-token-0001"}
        known = loopback.patch(url, headers=headers)
        unknown = loopback.patch(url, headers={"X-API-TOKEN": "another-token-0002"})
        status = simulator.stop()

    assert (known.status_code, known.json()) == (200, [1001])
    assert unknown.status_code == 401
    assert status == 0
