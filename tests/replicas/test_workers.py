"""`serve --workers`: several processes behind one port, as real processes on real servers."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.cli.processes import Process, environment, free_port, run, started, unmeasured, until
from tests.servers.postgres import Postgres, postgres
from tests.servers.valkey import valkey

VALUE = "a-simulated-token-value-0001"
WORKERS = 2


@dataclass(frozen=True)
class Served:
    """Two workers before a simulator: their supervisor, their address, and a caller's key."""

    supervisor: Process
    url: str
    key: str
    serving: tuple[str, ...]
    variables: dict[str, str]

    def workers(self, supervisor: Process | None = None) -> set[int]:
        """The process IDs of the supervisor's children."""
        pid = (supervisor or self.supervisor).process.pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()}

    @contextmanager
    def another(self, folder: Path, **settings: object) -> Iterator[Process]:
        """A supervisor beside this one, with a port and a state folder of its own."""
        keys = Path(self.variables["GATEWAY_STATE_DIR"]) / "master.keys"
        variables = self.variables | environment(STATE_DIR=folder / "state", MASTER_KEYS_FILE=keys, **settings)
        with started(*self.serving[:-1], str(free_port()), variables=variables, folder=folder / "supervisor") as supervisor:
            yield supervisor

    def link(self, order: int) -> httpx2.Response:
        """A call, over a connection of its own."""
        headers = {"Authorization": f"Bearer {self.key}", "Prefer": "wait=30"}
        return httpx2.patch(f"{self.url}/orders/link?orderIds={order}", headers=headers, trust_env=False, timeout=60)

    def answers(self) -> bool:
        """Whether a call gets through to the upstream."""
        with suppress(httpx2.TransportError):
            return self.link(1001).status_code == httpx2.codes.OK
        return False


@pytest.fixture(scope="module")
def served(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers that serve."""
    folder = tmp_path_factory.mktemp("workers")
    upstream, port = free_port(), free_port()
    with ExitStack() as stack:
        turns = stack.enter_context(valkey())
        variables = environment(
            STATE_DIR=folder / "state",
            DATABASE_URL=postgres_server.new_database(),
            VALKEY_URL=turns.address,
            UPSTREAM_URL=f"http://127.0.0.1:{upstream}",
            SHUTDOWN_GRACE=1,
        )
        token = ("--token", f"shop={VALUE}:account")
        simulator = stack.enter_context(
            started("simulate", "--port", str(upstream), *token, variables=unmeasured(), folder=folder / "simulator")
        )
        (folder / "value").write_text(VALUE, encoding="ascii")
        run("token", "add", "shop", "--kind", "account", "--value-file", str(folder / "value"), variables=variables)
        key = json.loads(run("caller", "add", "orders", "--grant", "shop", "--json", variables=variables).stdout)["key"]
        serving = ("serve", "--workers", str(WORKERS), "--port", str(port))
        supervisor = stack.enter_context(started(*serving, variables=variables, folder=folder / "gateway"))
        simulator.wait_for(f"http://127.0.0.1:{upstream}/_simulator/statistics")
        supervisor.wait_for_line("starting to serve", WORKERS)
        yield Served(supervisor, f"http://127.0.0.1:{port}", key, serving, variables)


@contextmanager
def no_more_descriptors(pid: int) -> Iterator[None]:
    """A process can open nothing meanwhile, as on a machine that is full."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_that_dies_is_started_again(served: Served) -> None:
    """Calls are answered by what is left of the workers, and soon there are as many as before."""
    until(served.answers)
    before = served.workers()
    (killed, _) = sorted(before)

    os.kill(killed, signal.SIGKILL)

    until(lambda: len(served.workers() - before) == 1 and killed not in served.workers())
    served.supervisor.wait_for_line("starting to serve", WORKERS + 1)
    assert served.link(1002).json() == [1002]


def test_a_worker_that_cant_be_started_again_yet_is_later(served: Served) -> None:
    """Where the machine has no room for another process the rest goes on, and it is tried again."""
    until(served.answers)
    before = served.workers()

    with no_more_descriptors(served.supervisor.process.pid):
        os.kill(min(before), signal.SIGKILL)
        served.supervisor.wait_for_line("a worker can't be started")

    until(lambda: len(served.workers() - before) == 1)
    assert served.link(1003).json() == [1003]


def test_without_their_supervisor_workers_end(served: Served) -> None:
    """Nothing is left that nobody would stop, or start again."""
    until(served.answers)
    workers = served.workers()

    served.supervisor.process.kill()
    served.supervisor.process.wait()

    until(lambda: not any(map(is_alive, workers)))
    assert len(workers) == WORKERS


def test_a_signal_ends_all_in_order(served: Served, tmp_path: Path) -> None:
    """SIGTERM to the supervisor ends it and its workers, without a failure."""
    with served.another(tmp_path) as supervisor:
        supervisor.wait_for_line("starting to serve", WORKERS)
        workers = served.workers(supervisor)

        assert supervisor.stop() == 0

    assert len(workers) == WORKERS
    assert not any(map(is_alive, workers))
    assert supervisor.err.count("stopped") == WORKERS


def test_a_hang_up_while_workers_start_ends_none(served: Served, tmp_path: Path) -> None:
    """SIGHUP, which has them read their files again, is kept for those that can't hear it yet."""
    with served.another(tmp_path) as supervisor:
        until(lambda: served.workers(supervisor))
        supervisor.process.send_signal(signal.SIGHUP)
        supervisor.wait_for_line("starting to serve", WORKERS)

        assert supervisor.stop() == 0

    assert "a worker ended" not in supervisor.err


def test_workers_that_cant_be_started_at_first_are_later(served: Served, tmp_path: Path) -> None:
    """The start is late then, but neither fails nor stands still."""
    with served.another(tmp_path) as supervisor:
        until(lambda: served.workers(supervisor))
        with no_more_descriptors(supervisor.process.pid):
            supervisor.wait_for_line("a worker can't be started")
        supervisor.wait_for_line("starting to serve", WORKERS)

        assert supervisor.stop() == 0


def test_a_worker_that_is_refused_after_it_was_up_ends_no_other(served: Served, tmp_path: Path) -> None:
    """It dies while the database is away, so that it can't start; once the database is back it is started again."""
    with postgres() as database, served.another(tmp_path, DATABASE_URL=database.new_database()) as supervisor:
        supervisor.wait_for_line("starting to serve", WORKERS)
        before = served.workers(supervisor)
        with database.away():
            os.kill(min(before), signal.SIGKILL)
            until(lambda: "status=2" in supervisor.err or '"status": 2' in supervisor.err)
        supervisor.wait_for_line("starting to serve", WORKERS + 1)

        assert max(before) in served.workers(supervisor)
        assert len(served.workers(supervisor)) == WORKERS
