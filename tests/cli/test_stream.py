"""`serve` with a stream of its record and a program that keeps anchors: real processes, pipes and files."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.callers import GrantAsked, NewCaller
from app.cli.state import administer
from app.domain import TokenKind, TokenValue
from app.vault import NewToken
from tests import loopback

from .processes import Process, environment, free_port, run, started, unmeasured, until
from .shell import Shell

TOKEN_VALUE = "a-simulated-token-value-0001"
PAGE = 4_096
LARGE = 64 * 1_024 * 1_024


@dataclass
class Site:
    """A state folder with a token and a caller, a simulator, and gateways that are started on it."""

    folder: Path
    upstream: str
    key: str
    stack: ExitStack
    settings: dict[str, object] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    starts: int = 0

    @property
    def variables(self) -> dict[str, str]:
        """What a gateway's process is given."""
        return environment(STATE_DIR=self.folder / "state", UPSTREAM_URL=self.upstream, **self.settings)

    def start(self, folder: Path | None = None) -> Process:
        """Start a gateway and wait until it is ready."""
        self.starts += 1
        folder = folder or self.folder / f"start-{self.starts}"
        gateway = self.stack.enter_context(started("serve", "--port", str(self.port), variables=self.variables, folder=folder))
        gateway.wait_for(f"http://127.0.0.1:{self.port}/gateway/health/ready")
        return gateway

    def call(self, query: str) -> int:
        """A call's status."""
        url, headers = f"http://127.0.0.1:{self.port}/orders/link?{query}", {"Authorization": f"Bearer {self.key}"}
        return loopback.patch(url, headers=headers, timeout=30).status_code

    def add_token(self, name: str) -> None:
        """A change by a command."""
        new = NewToken(name, TokenKind.ACCOUNT, TokenValue(f"a-value-of-the-token-{name}"))
        administer(lambda administration: administration.add_token(new))

    def query(self, query: str) -> list[bytes]:
        """What the database holds."""
        connection = sqlite3.connect(self.folder / "state" / "gateway.db")
        connection.text_factory = bytes
        try:
            return [value for (value,) in connection.execute(query)]
        finally:
            connection.close()

    def stored(self) -> list[bytes]:
        """Every record's body from the first gateway's start on."""
        return self.query("SELECT body FROM audit_records WHERE number > 3 ORDER BY number")


@pytest.fixture
def site(tmp_path: Path, shell_of: Callable[[Path], Shell]) -> Iterator[Site]:
    """A site on which no gateway was started yet; three records are there: of the chain's opening, a token and a caller."""
    shell_of(tmp_path / "state")
    administer(lambda administration: administration.add_token(NewToken("shop", TokenKind.ACCOUNT, TokenValue(TOKEN_VALUE))))
    caller = NewCaller("order-service", (GrantAsked("shop"),))
    key = administer(lambda administration: administration.add_caller(caller))[1].reveal()
    port = free_port()
    with ExitStack() as stack:
        arguments = ("simulate", "--port", str(port), "--token", f"shop={TOKEN_VALUE}:account")
        simulator = stack.enter_context(started(*arguments, variables=unmeasured(), folder=tmp_path / "simulate"))
        simulator.wait_for(f"http://127.0.0.1:{port}/_simulator/statistics")
        yield Site(tmp_path, f"http://127.0.0.1:{port}", key, stack)


def lines(path: Path) -> list[bytes]:
    """A file's lines that are whole; none where it isn't there."""
    return (path.read_bytes() if path.exists() else b"").split(b"\n")[:-1]


def test_standard_output_holds_every_record_and_nothing_else(site: Site) -> None:
    """Calls, refusals and a command's change, each as it is stored, in the order of their numbers, the last before the end."""
    site.settings["AUDIT_STREAM"] = "stdout"
    gateway = site.start()
    answers = [site.call("orderIds=1001"), site.call("orderId=1"), site.call("")]
    site.add_token("another")
    status = gateway.stop()

    assert (answers, status) == ([200, 400, 400], 0)
    assert gateway.out.encode().split(b"\n")[:-1] == site.stored()
    names = [json.loads(line)["name"] for line in site.stored()]
    assert {"chain:opened", "call:intent", "send:intent", "call:outcome", "call:refused", "token:added"} <= set(names)
    assert TOKEN_VALUE not in gateway.out
    assert site.key[17:] not in gateway.out


def test_a_collector_that_doesnt_read_holds_nothing_up(site: Site) -> None:
    """With standard output's pipe full, calls are answered as before; the collector gets every record when it reads again."""
    folder = site.folder / "blocked"
    folder.mkdir()
    os.mkfifo(folder / "out")
    reading = os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PAGE)
    site.settings["AUDIT_STREAM"] = "stdout"
    gateway = site.start(folder)
    refused = [site.call("") for _ in range(60)]
    gateway.wait_for_line("the audit stream can't be written")
    linked = site.call("orderIds=1001")
    got = b""

    def has_read_all() -> bool:
        nonlocal got
        while select.select([reading], [], [], 0)[0] and (text := os.read(reading, PAGE)):
            got += text
        return got.split(b"\n")[:-1] == site.stored()

    until(has_read_all)
    gateway.wait_for_line("the audit stream is written again")
    os.close(reading)

    assert (set(refused), linked) == ({400}, 200)
    assert len(site.stored()) > 60
    assert gateway.stop() == 0


def test_a_collector_that_is_gone_holds_nothing_up(site: Site) -> None:
    """With standard output's pipe broken calls are answered, it is logged once, and the next gateway's collector gets what is missing."""
    folder = site.folder / "broken"
    folder.mkdir()
    os.mkfifo(folder / "out")
    reading = os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK)
    site.settings["AUDIT_STREAM"] = "stdout"
    gateway = site.start(folder)
    os.close(reading)
    linked = site.call("orderIds=1001")
    gateway.wait_for_line("the audit stream can't be written")
    site.add_token("another")
    statuses = [gateway.stop()]
    following = site.start()
    statuses.append(following.stop())

    assert (linked, statuses) == (200, [0, 0])
    assert gateway.err.count("the audit stream can't be written") == 1
    assert following.out.encode().split(b"\n")[:-1] == site.stored()


def test_a_full_disk_holds_nothing_up(site: Site) -> None:
    """Where the file may grow no further calls are answered, it is logged once, and the stream goes on at the same byte when it can."""
    path = site.folder / "audit.jsonl"
    with path.open("wb") as file:
        file.truncate(LARGE)
    site.settings["AUDIT_STREAM"] = f"file:{path}"
    gateway = site.start()
    _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (LARGE + 1_000, hard))
    answers = [site.call("orderIds=1001"), site.call("orderIds=1002")]
    gateway.wait_for_line("the audit stream can't be written")
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    gateway.wait_for_line("the audit stream is written again")
    status = gateway.stop()
    with path.open("rb") as file:
        file.seek(LARGE)
        streamed = file.read()

    assert (answers, status) == ([200, 200], 0)
    assert streamed.split(b"\n") == [b"", *site.stored(), b""]
    assert gateway.err.count("the audit stream can't be written") == 1


def test_a_file_is_rotated(site: Site) -> None:
    """Moved away, with SIGHUP as logrotate sends it, the file is made anew with mode 0600; no record is missing, none comes twice."""
    path, old = site.folder / "audit.jsonl", site.folder / "audit.jsonl.1"
    site.settings["AUDIT_STREAM"] = f"file:{path}"
    gateway = site.start()
    site.call("orderIds=1001")
    until(lambda: lines(path) == site.stored())
    path.rename(old)
    gateway.process.send_signal(signal.SIGHUP)
    until(path.exists)
    site.call("")
    until(lambda: lines(path))
    status = gateway.stop()

    assert status == 0
    assert lines(old) + lines(path) == site.stored()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "can't be written" not in gateway.err


def test_a_killed_gateways_records_follow(site: Site) -> None:
    """After `kill -9`, and a change while none ran, the next gateway's stream goes on: every record is in the file, in order."""
    path = site.folder / "audit.jsonl"
    site.settings["AUDIT_STREAM"] = f"file:{path}"
    gateway = site.start()
    site.call("orderIds=1001")
    gateway.process.kill()
    gateway.process.wait()
    site.add_token("while-none-ran")
    site.start().stop()
    bodies = [line for line in lines(path) if line.endswith(b"}")]

    assert list(dict.fromkeys(bodies)) == site.stored()


@pytest.mark.parametrize("target", ["file:{folder}/missing/audit.jsonl", "file:{folder}", "file:", "syslog"])
def test_a_wrong_target_stops_the_start(tmp_path: Path, target: str) -> None:
    """One line names the variable, and nothing is served."""
    variables = environment(STATE_DIR=tmp_path / "state", AUDIT_STREAM=target.format(folder=tmp_path))
    ran = run("serve", "--port", "0", variables=variables)

    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("GATEWAY_AUDIT_STREAM: ")
    assert "Traceback" not in ran.stderr


def test_a_command_that_cant_be_split_stops_the_start(tmp_path: Path) -> None:
    """An open quotation mark is a slip that nobody should find out about in an audit."""
    ran = run("serve", "--port", "0", variables=environment(STATE_DIR=tmp_path / "state", AUDIT_ANCHOR_COMMAND="keep 'it"))

    assert (ran.returncode, ran.stderr) == (2, "GATEWAY_AUDIT_ANCHOR_COMMAND: must be a program and its arguments, quoted as for a shell\n")


def test_anchors_are_kept_by_a_program(site: Site) -> None:
    """Every checkpoint, the one at the end too, reaches the operator's program once, which is given no variable of the gateway's."""
    path, variables = site.folder / "anchors", site.folder / "environment"
    site.settings["AUDIT_ANCHOR_COMMAND"] = f"""sh -c 'cat >> "$0"; env > "$1"' {path} {variables}"""
    gateway = site.start()
    site.call("orderIds=1001")
    site.add_token("another")
    status = gateway.stop()

    assert status == 0
    assert [json.loads(line)["body"].encode() for line in lines(path)] == site.query("SELECT body FROM audit_checkpoints ORDER BY number")
    assert len(lines(path)) == 4
    assert "GATEWAY" not in variables.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["/nowhere/to/be/found", "false", "sleep 600"])
def test_a_program_that_fails_holds_nothing_up(site: Site, command: str) -> None:
    """Calls are answered and the gateway ends in order, whatever becomes of the operator's program; the log tells."""
    site.settings["AUDIT_ANCHOR_COMMAND"] = command
    gateway = site.start()
    answers = [site.call("orderIds=1001"), site.call("")]

    assert answers == [200, 400]
    assert gateway.stop() == 0
    assert "audit anchor command" in gateway.err
