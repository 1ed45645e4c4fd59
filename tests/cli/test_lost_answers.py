"""`link` before a gateway in a process of its own, through a proxy that loses the answer to an upload."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from .linking import Linking, linking
from .processes import PATIENCE_SECONDS, started
from .shell import Shell

IDS = range(1001, 1121)


@contextmanager
def losing_the_first_answer(port: int) -> Iterator[str]:
    """A proxy before this port, which ends its first connection once the gateway has answered there; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, port), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, port: int) -> None:
    losing = True
    while True:
        try:
            client, _ = listening.accept()
        except OSError:  # the test is over
            return
        gateway = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=_pump, args=(client, gateway), daemon=True).start()
        threading.Thread(target=_pump, args=(gateway, client), kwargs={"losing": losing}, daemon=True).start()
        losing = False


def _pump(giving: socket.socket, taking: socket.socket, *, losing: bool = False) -> None:
    """Pass on what comes, until one side ends; or end both when something comes."""
    with closing(giving), closing(taking):
        try:
            while (piece := giving.recv(65_536)) and not losing:
                taking.sendall(piece)
            for side in (giving, taking):
                side.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other direction's thread has ended both
            return


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linking]:
    """A gateway that serves."""
    with linking(tmp_path_factory.mktemp("lost")) as state:
        yield state


@pytest.fixture
def shell(state: Linking, shell_of: Callable[[Path], Shell]) -> Shell:
    """A shell that calls as `service`."""
    return state.calling(state.admitted(shell_of(state.served.state_dir)))


def sent(state: Linking) -> Counter[int]:
    """How often each ID has reached Flxpoint."""
    answer = httpx2.get(f"{state.served.upstream}/_simulator/targets", params={"token": "fast"}, trust_env=False).raise_for_status()
    return Counter(int(one) for target in answer.json() for one in re.findall(r"\d+", target.partition("=")[2].replace("%2C", ",")))


def test_an_upload_whose_answer_is_lost_is_one_job(shell: Shell, state: Linking, tmp_path: Path) -> None:
    """It is made again with the same key: there is one job, which is followed to its end, and each ID is sent once."""
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(map(str, IDS)), encoding="utf-8")
    before = sent(state)
    with losing_the_first_answer(state.served.port) as url:
        variables = state.variables() | {"GATEWAY_URL": url}
        arguments = ("link", "--param", "orderIds", "--file", str(file), "--token", "fast")
        with started(*arguments, variables=variables, folder=tmp_path / "run") as ran:
            status = ran.process.wait(PATIENCE_SECONDS)
    (job,) = shell("jobs", "list", "--json").document

    assert "; trying again in " in ran.err
    assert (status, ran.out.splitlines()[0]) == (0, f"job {job['id']}: succeeded")
    assert (job["counts"]["total"], job["counts"]["linked"]) == (len(IDS), len(IDS))
    assert sent(state) - before == Counter(IDS)
