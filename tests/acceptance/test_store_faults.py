"""The database locked, full, or made read-only under a gateway that serves: nothing unrecorded goes out, and nothing that happened is lost.

Gateway and simulator are processes of their own; each fault is a real one.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import pytest

from app.audit import Spool
from app.audit.chain import GENESIS, next_hash
from app.callers import GrantAsked, NewCaller
from app.cli.state import administer
from app.domain import TokenKind, TokenValue
from app.vault import NewToken
from tests import loopback
from tests.cli.processes import Process, free_port, started, unmeasured, until

VALUE = "a-simulated-token-value-0001"
LOCKED_SECONDS = 10.0
WHILE_AWAY = {"kind": "latency", "out": 0, "back": 3, "count": 1}
LARGEST_FILE = 16_384
SMALL_DISK = "24m"
REFUSED = "audit-unavailable"
OF_ITS_PLACE = {"chain", "seq", "number"}
OF_A_CALL_UNDER_WAY = ["call:outcome", "send:outcome"]

Members = dict[str, Any]


@dataclass
class Served:
    """A gateway before a simulator, each a process, and a caller's key. `state` is where this process finds the gateway's state folder."""

    gateway: Process
    url: str
    upstream: str
    key: str
    state: Path

    @property
    def database(self) -> Path:
        """The database's file."""
        return self.state / "gateway.db"

    def link(self, order: int) -> httpx2.Response:
        """One call, whose request ID is the order's."""
        headers = {"X-API-TOKEN": self.key, "X-Request-ID": f"request-{order}"}
        return loopback.patch(f"{self.url}/orders/link?orderIds={order}", headers=headers, timeout=60)

    def arrivals(self) -> int:
        """How many requests arrived at the simulator."""
        return len(loopback.get(f"{self.upstream}/_simulator/arrivals?token=shop").json())

    def plan(self, fault: Members) -> None:
        """Order a fault at the simulator."""
        loopback.post(f"{self.upstream}/_simulator/faults", json=fault).raise_for_status()

    def readiness(self) -> tuple[int, Members]:
        """What the gateway says of itself."""
        answer = loopback.get(f"{self.url}/gateway/health/ready")
        return answer.status_code, answer.json()

    def spooled(self) -> list[Members]:
        """What stands in the spool."""
        spool = Spool(self.state / "audit.spool")
        spool.close()
        return [dict(record.members) for record in spool.left]

    def records(self) -> list[Members]:
        """What is on record, in the order in which it was written; every chain is whole."""
        rows = _rows(self.database)
        heads: dict[str, tuple[int, bytes]] = {}
        for body, digest in rows:
            members = json.loads(body)
            seq, previous = heads.get(members["chain"], (0, GENESIS))
            assert members["seq"] == seq + 1
            assert digest == next_hash(previous, body.encode())
            heads[members["chain"]] = (members["seq"], digest)
        return [json.loads(body) for body, _ in rows]

    def outcomes(self) -> dict[str, int]:
        """How many outcomes each call has that was taken in, by its ID."""
        records = self.records()
        ended = Counter(one["call_id"] for one in records if one["name"] == "call:outcome")
        return {one["call_id"]: ended[one["call_id"]] for one in records if one["name"] == "call:intent"}

    def assert_all_ended_once(self) -> None:
        """Every call whose intent is on record, early or late, has one outcome there, or has it soon."""
        until(lambda: 0 not in self.outcomes().values())

        assert set(self.outcomes().values()) == {1}

    def ends(self) -> dict[str, list[str]]:
        """With which codes each request ended, by its ID."""
        found: dict[str, list[str]] = {}
        for one in self.records():
            if one["name"] == "call:outcome":
                found.setdefault(one["request_id"], []).append(one["code"])
        return found


def _rows(database: Path) -> list[tuple[str, bytes]]:
    """The records' bodies and hashes, from a copy: SQLite would look for a file of another mount namespace in this one."""
    with TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{database}{suffix}", f"{folder}/copy{suffix}")
        with closing(sqlite3.connect(f"{folder}/copy")) as connection:
            return connection.execute("SELECT body, hash FROM audit_records ORDER BY number").fetchall()


@dataclass
class Place:
    """Where a gateway and its simulator are started, and started again."""

    folder: Path
    stack: ExitStack
    key: str
    upstream: str
    starts: int = 0

    def serve(self, *inside: str) -> Served:
        """Start a gateway on the state folder and wait until it is ready; `inside` is a command that puts it in its place."""
        self.starts += 1
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        variables = unmeasured(STATE_DIR=self.folder / "state", UPSTREAM_URL=self.upstream)
        folder = self.folder / f"serve-{self.starts}"
        arguments = ("serve", "--port", str(port))
        gateway = self.stack.enter_context(started(*arguments, variables=variables, folder=folder, inside=inside))
        gateway.wait_for(f"{url}/gateway/health/ready")
        return Served(gateway, url, self.upstream, self.key, self.folder / "state")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A state folder with a token and a caller, and a simulator that runs."""
    monkeypatch.setenv("GATEWAY_STATE_DIR", str(tmp_path / "state"))
    administer(lambda administration: administration.add_token(NewToken("shop", TokenKind.ACCOUNT, TokenValue(VALUE))))
    _, key = administer(lambda administration: administration.add_caller(NewCaller("service", (GrantAsked("shop"),))))
    port = free_port()
    upstream = f"http://127.0.0.1:{port}"
    simulate = ("simulate", "--port", str(port), "--token", f"shop={VALUE}:account")
    with ExitStack() as stack:
        simulator = stack.enter_context(started(*simulate, variables=unmeasured(), folder=tmp_path / "simulate"))
        simulator.wait_for(f"{upstream}/_simulator/health")
        yield Place(tmp_path, stack, key.reveal(), upstream)


@contextmanager
def locked(served: Served) -> Iterator[None]:
    """Another process holds the database's write lock, for 10 s at least."""
    since = time.monotonic()
    locker = sqlite3.connect(served.database, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    try:
        yield
        threading.Event().wait(max(0.0, since + LOCKED_SECONDS - time.monotonic()))
    finally:
        locker.execute("ROLLBACK")
        locker.close()


@contextmanager
def files_full(served: Served, largest: int = LARGEST_FILE) -> Iterator[None]:
    """No file of the gateway's process may be written beyond 16 KiB; the database's log is longer already."""
    process = served.gateway.process.pid
    assert (served.state / "gateway.db-wal").stat().st_size > largest
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@contextmanager
def disk_full(served: Served) -> Iterator[None]:
    """Something else fills the file system of the state folder to its last byte."""
    filler = served.state / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4_096)):
                pass
        except OSError:
            yield
        finally:
            filler.unlink()


@contextmanager
def read_only(served: Served) -> Iterator[None]:
    """The database's files take no writes. What root may write is made immutable; another user's is made read-only and opened anew.

    The index in shared memory (`-shm`) is left alone: the kernel kills a process that writes to a mapping of an immutable file.
    """
    files = [served.database.with_name(f"gateway.db{suffix}") for suffix in ("", "-wal")]
    with _immutable(files) if os.geteuid() == 0 else _without_permission(files, served):
        yield


@contextmanager
def _immutable(files: list[Path]) -> Iterator[None]:
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", *files], check=False, capture_output=True).returncode:
        subprocess.run([chattr or "true", "-i", *files], check=False, capture_output=True)
        pytest.skip("this file system has no immutable files")
    try:
        yield
    finally:
        subprocess.run([chattr, "-i", *files], check=True)


@contextmanager
def _without_permission(files: list[Path], served: Served) -> Iterator[None]:
    """A file that is open for writing stays so; the gateway opens it anew once a commit has failed, by a lock here."""
    locker = sqlite3.connect(served.database, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    assert served.link(1900).status_code == 503
    for file in files:
        file.chmod(0o400)
    try:
        served.gateway.wait_for_line("database is locked")
        locker.close()
        yield
    finally:
        for file in files:
            file.chmod(0o600)


FAULTS: dict[str, Callable[[Served], AbstractContextManager[None]]] = {
    "locked for 10 s": locked,
    "no room in files": files_full,
    "made read-only": read_only,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_nothing_unrecorded_goes_out_and_nothing_that_happened_is_lost(
    place: Place, fault: Callable[[Served], AbstractContextManager[None]]
) -> None:
    """What is under way is answered and kept, what comes is refused, unsent; when the database is back so is the gateway, by itself."""
    survives(place.serve(), fault)


def test_a_full_disk_loses_nothing_either(place: Place) -> None:
    """As above, on a file system of a few megabytes that is filled to the last byte."""
    state = place.folder / "state"
    shutil.copytree(state, place.folder / "copy")
    mount = f'mount -t tmpfs -o size={SMALL_DISK} none "{state}" && cp -a "{place.folder}/copy/." "{state}"'
    unshare = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "mount -t tmpfs none /mnt"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here, not even in a namespace; test_nothing_unrecorded… fills files instead")
    served = place.serve(*unshare, f'{mount} && exec "$@"', "sh")
    served.state = Path(f"/proc/{served.gateway.process.pid}/root{state}")
    survives(served, disk_full)


def survives(served: Served, fault: Callable[[Served], AbstractContextManager[None]]) -> None:
    """Run a gateway through a fault of its database, and look at what happened."""
    process = served.gateway.process.pid
    before = [served.link(order).status_code for order in (1001, 1002)]
    served.plan(WHILE_AWAY)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(served.link, 1003)
        until(lambda: served.arrivals() == 3)
        with fault(served):
            refused = [served.link(order) for order in (1101, 1102)]
            unready = served.readiness()
            answered = under_way.result()
            spooled = served.spooled()
            arrivals = served.arrivals()
        until(lambda: served.readiness()[0] == 200)
    after = served.link(1004)
    until(lambda: not served.spooled())
    until(lambda: "request-1004" in served.ends())
    sent = [one["request_id"] for one in served.records() if one["name"] == "send:intent"]

    assert before == [200, 200]
    assert [(one.status_code, one.json()["type"], one.headers["Retry-After"]) for one in refused] == [
        (503, f"/gateway/problems/{REFUSED}", "1")
    ] * 2
    assert unready == (503, {"status": "not-ready", "reasons": ["audit records can't be written"]})
    assert (answered.status_code, answered.json()) == (200, [1003])
    assert [(one["name"], one["code"]) for one in spooled if one["name"] == "call:outcome" and one["request_id"] == "request-1003"] == [
        ("call:outcome", "ok")
    ]
    assert arrivals == 3
    assert after.json() == [1004]
    assert {one for one in sent if not one.startswith("request-11")} == {f"request-{order}" for order in range(1001, 1005)}
    assert {order: served.ends()[f"request-{order}"] for order in range(1001, 1005)} == {order: ["ok"] for order in range(1001, 1005)}
    served.assert_all_ended_once()
    assert served.gateway.process.poll() is None
    assert served.gateway.process.pid == process


LOG_TO_A_PIPE = """mkfifo "$0.pipe" && { cat "$0.pipe" >"$0" & exec "$@" 2>"$0.pipe"; }"""


def test_where_the_spool_fails_too_the_answer_goes_out_and_its_record_comes_later(place: Place) -> None:
    """No file at all can be written: the records stand in the log, each once; when there is room again nothing is missing."""
    log = place.folder / "log"
    served = place.serve("sh", "-c", LOG_TO_A_PIPE, str(log))
    served.link(1001)
    served.plan(WHILE_AWAY)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(served.link, 1002)
        until(lambda: served.arrivals() == 2)
        with files_full(served, 1):
            answered = under_way.result()
            refused = served.link(1101)
            spooled = served.spooled()
            until(lambda: len(_logged_records(log)) >= len(OF_A_CALL_UNDER_WAY))
    logged = _logged_records(log)
    until(lambda: served.readiness()[0] == 200)
    late = [one for one in served.records() if one["id"] in {record["id"] for record in logged}]

    assert (answered.status_code, answered.json()) == (200, [1002])
    assert refused.json()["type"] == f"/gateway/problems/{REFUSED}"
    assert spooled == []
    assert sorted(one["name"] for one in logged if one.get("request_id") == "request-1002") == OF_A_CALL_UNDER_WAY
    assert [{name: one[name] for name in one if name not in OF_ITS_PLACE} for one in late] == logged
    assert served.ends()["request-1002"] == ["ok"]
    served.assert_all_ended_once()


def _logged_records(log: Path) -> list[Members]:
    """The records that stand in the log as errors, as often as they do."""
    whole, _, _ = log.read_text(encoding="utf-8").rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines() if "can't be spooled" in line]
    return [record for line in lines if line["level"] == "error" for record in line["records"]]


def test_a_process_that_is_killed_while_the_store_is_away_leaves_its_outcomes(place: Place) -> None:
    """The caller was answered; the next process finds the outcome in the spool and has it on record before it is ready."""
    served = place.serve()
    served.link(1001)
    served.plan(WHILE_AWAY)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(served.link, 1002)
        until(lambda: served.arrivals() == 2)
        locker = sqlite3.connect(served.database, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        answered = under_way.result()
        ends = served.ends()
        os.kill(served.gateway.process.pid, signal.SIGKILL)
        served.gateway.process.wait()
        locker.close()
    again = place.serve()
    outcomes = [one for one in again.records() if one.get("request_id") == "request-1002" and one["name"] == "call:outcome"]

    assert answered.json() == [1002]
    assert "request-1002" not in ends
    assert [(one["code"], one["linked_ids"]) for one in outcomes] == [("ok", ["1002"])]
    assert outcomes[0]["chain"] != next(one for one in again.records() if one["name"] == "send:intent")["chain"]
    again.assert_all_ended_once()


def test_a_caller_that_hangs_up_while_the_store_is_away_is_on_record(place: Place) -> None:
    """Its call was under way: its end comes on record when the store is back, as that of a caller that is gone."""
    served = place.serve()
    served.link(1001)
    served.plan(WHILE_AWAY)
    headers = {"X-API-TOKEN": served.key, "X-Request-ID": "request-1002"}
    with loopback.client(timeout=1) as client, ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(client.patch, f"{served.url}/orders/link?orderIds=1002", headers=headers)
        until(lambda: served.arrivals() == 2)
        locker = sqlite3.connect(served.database, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(httpx2.ReadTimeout):
            leaving.result()
        until(lambda: len([one for one in served.spooled() if one["name"] in {"call:outcome", "send:outcome"}]) == 2)
        locker.close()
    until(lambda: served.readiness()[0] == 200)

    assert served.ends()["request-1002"] == ["caller-gone"]
    assert [one["linked_ids"] for one in served.records() if one["name"] == "send:outcome"] == [["1001"], ["1002"]]
    served.assert_all_ended_once()


def test_a_shutdown_beside_a_dead_store_leaves_nothing_behind_in_memory(place: Place) -> None:
    """The process ends, and what it had not on record is there after the next start."""
    served = place.serve()
    served.link(1001)
    locker = sqlite3.connect(served.database, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    refused = loopback.get(f"{served.url}/gateway/me", headers={"X-API-TOKEN": "not-a-key-of-the-gateway"}).status_code
    status = served.gateway.stop()
    locker.close()
    spooled = [one["name"] for one in served.spooled()]
    again = place.serve()

    assert (refused, status) == (401, 0)
    assert spooled == ["refusals:counted"]
    assert [one["code"] for one in again.records() if one["name"] == "refusals:counted"] == ["upstream-token-presented"]
