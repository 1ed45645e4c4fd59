"""`serve` with a configuration file, as a real process: the start, changes while it serves, and what goes wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.callers import HashedKey, NewCaller, parse_key
from app.cli.state import administer
from tests import loopback

from .processes import REPOSITORY, Process, environment, free_port, started, unmeasured, until
from .shell import Shell

CANARY = "a-canary-value-000"
VALUES = {f"token-{number}": f"{CANARY}{number}" for number in range(3)}
KEYS = {name: f"fgk_{digit * 12}_{name * 43}" for name, digit in (("A", "a"), ("B", "b"), ("C", "c"))}
TOKENS = """
tokens:
- {name: shop, kind: account, value: {file: secrets/shop}}
"""
CALLERS = """
callers:
- {name: by-file, grants: [{token: shop}], keys: [{file: secrets/key}]}
- {name: by-variable, grants: [{token: shop}], keys: [{variable: CALLER_KEY}]}
- {name: by-hash, grants: [{token: shop}], keys: [{sha256: HASH}]}
"""
APPLIED = "the configuration file was applied"
ADDRESSES = ip_network("10.0.0.0/8").hosts()
WRONG = "the configuration file is wrong; going on as before"


def declared() -> str:
    """The file as it begins."""
    key = parse_key(KEYS["C"])
    assert key
    return (TOKENS + CALLERS).replace("HASH", f'"{HashedKey.of(key)}"')


@dataclass
class Served:
    """A gateway that serves what its configuration file declares."""

    folder: Path
    upstream: str
    process: Process = field(init=False)
    port: int = field(default_factory=free_port)
    begun: int = 0

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.folder / "gateway.yaml"

    @property
    def variables(self) -> dict[str, str]:
        """What the gateway's process is given."""
        given = environment(
            STATE_DIR=self.folder / "state",
            UPSTREAM_URL=self.upstream,
            CONFIG_FILE=self.path,
            PORT=self.port,
            TRUSTED_PROXIES="127.0.0.1/32",
        )
        return given | {"CALLER_KEY": KEYS["B"]}

    def status(self, key: str) -> int:
        """What a call with a key and without a parameter gets: 400 where the key is known, 401 where not. Nothing is sent upstream.

        Each comes from an address of its own: one may guess ten times a minute only.
        """
        headers = {"X-API-TOKEN": key, "X-Forwarded-For": str(next(ADDRESSES))}
        return loopback.patch(f"{self.url}/orders/link", headers=headers).status_code

    def link(self, key: str, ids: str) -> httpx2.Response:
        """A call."""
        headers = {"X-API-TOKEN": key}
        return loopback.patch(f"{self.url}/orders/link?orderIds={ids}", headers=headers, timeout=30)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of that event since the test began."""
        return [line for line in map(json.loads, self.process.err[self.begun :].splitlines()) if line["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until it was logged so many times since the test began."""
        until(lambda: len(self.lines(event)) >= count)

    def changes(self) -> list[dict[str, int]]:
        """What was changed, time by time, since the test began."""
        return [line["changes"] for line in self.lines(APPLIED) if line["changes"]]

    def hang_up(self) -> None:
        """Send SIGHUP, and wait until the file was applied."""
        count = len(self.lines(APPLIED))
        self.process.process.send_signal(signal.SIGHUP)
        self.wait_for(APPLIED, count + 1)

    def write(self) -> None:
        """Write the files as they are at the beginning."""
        (self.folder / "secrets").mkdir(exist_ok=True)
        (self.folder / "secrets" / "shop").write_text(VALUES["token-0"] + "\n", encoding="utf-8")
        (self.folder / "secrets" / "key").write_text(KEYS["A"] + "\n", encoding="utf-8")
        self.path.write_text(declared(), encoding="utf-8")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulator that knows the tokens."""
    port = free_port()
    tokens = [argument for name, value in VALUES.items() for argument in ("--token", f"{name}={value}:account")]
    with started("simulate", "--port", str(port), *tokens, variables=unmeasured(), folder=tmp_path_factory.mktemp("simulate")) as simulator:
        simulator.wait_for(f"http://127.0.0.1:{port}/_simulator/statistics")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def prepared(upstream: str, tmp_path: Path) -> Served:
    """The files, and nothing that serves yet."""
    prepared = Served(tmp_path, upstream)
    prepared.write()
    return prepared


@pytest.fixture(scope="module")
def running(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that serves, for the whole file."""
    running = Served(tmp_path_factory.mktemp("configuration"), upstream)
    running.write()
    with started("serve", variables=running.variables, folder=running.folder / "serve") as running.process:
        running.process.wait_for(f"{running.url}/gateway/health/ready")
        yield running


@pytest.fixture
def served(running: Served) -> Served:
    """The gateway that serves, with what is declared at the beginning in use."""
    running.write()
    running.hang_up()
    until(lambda: [running.status(key) for key in KEYS.values()] == [400, 400, 400])
    running.begun = len(running.process.err)
    return running


def test_keys_by_file_variable_and_hash_are_taken(served: Served) -> None:
    """Each caller is known from the start by its key, whichever way that is declared, and its calls go all the way."""
    assert [served.status(key) for key in KEYS.values()] == [400, 400, 400]
    assert served.status(KEYS["A"].replace("fgk_a", "fgk_d")) == 401
    assert served.link(KEYS["C"], "1001").json() == [1001]
    served.hang_up()
    assert [(line["tokens"], line["callers"]) for line in served.lines(APPLIED)[-1:]] == [(1, 3)]


def test_a_removed_caller_is_refused_and_comes_back(served: Served) -> None:
    """Within 2 s of the file's change its key is refused, and taken again within 2 s of its being declared again."""
    whole = served.path.read_text(encoding="utf-8")
    served.path.write_text("\n".join(line for line in whole.splitlines() if "by-file" not in line), encoding="utf-8")
    until(lambda: served.status(KEYS["A"]) == 401, within=2)
    others = [served.status(KEYS[name]) for name in "BC"]
    served.path.write_text(whole, encoding="utf-8")
    until(lambda: served.status(KEYS["A"]) == 400, within=2)

    assert others == [400, 400]
    assert served.changes() == [{"caller:disabled": 1}, {"caller:enabled": 1}]


def test_a_hangup_reads_the_file_again(served: Served) -> None:
    """SIGHUP has the file applied at once, changed or not, and doesn't end the process."""
    served.hang_up()
    served.path.write_text(declared().replace("kind: account", "kind: account, rate: 3"), encoding="utf-8")
    served.hang_up()

    assert served.changes() == [{"token:changed": 1}]
    assert (served.status(KEYS["A"]), served.process.process.poll()) == (400, None)


def test_a_wrong_change_keeps_what_was(served: Served) -> None:
    """The old state stays in use, the gateway stays ready, and the log says why; another change is taken afterwards."""
    served.path.write_text(declared().replace("by-file", "by file"), encoding="utf-8")
    served.wait_for(WRONG)
    still = served.status(KEYS["A"]), loopback.get(f"{served.url}/gateway/health/ready").status_code
    (served.folder / "secrets" / "key").unlink()
    served.path.write_text(declared(), encoding="utf-8")
    served.wait_for(WRONG, 2)
    (served.folder / "secrets" / "key").write_text(KEYS["A"].replace("fgk_a", "fgk_d"), encoding="utf-8")
    until(lambda: served.status(KEYS["A"].replace("fgk_a", "fgk_d")) == 400, within=2)

    assert still == (400, 200)
    assert [line["reason"].partition(": callers")[2] for line in served.lines(WRONG)] == [
        "[0].name: should have 1 to 64 letters, digits, dots, dashes and underscores",
        "[0].keys[0].file: the file can't be read: No such file or directory",
    ]
    assert served.status(KEYS["A"]) == 401


def test_waiting_calls_go_on_with_a_changed_value(served: Served) -> None:
    """Calls that wait when the token's file gets another value keep their places and go with the new one; none fails."""
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(served.link, KEYS["A"], str(2001 + number)) for number in range(8)]
        until(lambda: any(call.done() for call in calls))
        (served.folder / "secrets" / "shop").write_text(VALUES["token-1"], encoding="utf-8")
        answers = [call.result() for call in calls]

    statistics = loopback.get(f"{served.upstream}/_simulator/statistics").json()["tokens"]
    assert [(answer.status_code, answer.headers["Gateway-Token"]) for answer in answers] == [(200, "shop")] * 8
    assert statistics["token-1"]["arrivals"] > 0


def test_no_secret_is_told_anywhere(served: Served, shell_of: Callable[[Path], Shell]) -> None:
    """Neither the log, nor the records, nor what commands print holds a value or a key's secret, after changes right and wrong."""
    for text in (f"tokens: [{CANARY}9]", declared() + f"- {{name: x, keys: [{KEYS['A']}]}}", f"*{CANARY}9", TOKENS):
        count = len(served.lines(APPLIED)) + len(served.lines(WRONG))
        served.path.write_text(text, encoding="utf-8")
        until(lambda known=count: len(served.lines(APPLIED)) + len(served.lines(WRONG)) > known)  # type: ignore[misc]
    shell = shell_of(served.folder / "state")
    printed = [shell(*arguments).out for arguments in (("audit", "list", "--json"), ("token", "list"), ("caller", "list", "--json"))]

    said = served.process.err + served.process.out + "".join(printed)
    assert len(served.lines(WRONG)) == 3
    assert not any(secret in said for secret in (CANARY, *(name * 43 for name in KEYS)))


def test_a_declared_caller_is_changed_nowhere_else(served: Served, shell_of: Callable[[Path], Shell]) -> None:
    """Commands refuse to change what the file declares, and say where to."""
    shell = shell_of(served.folder / "state")
    told = "conflict: {} is declared in the configuration file; change it there\n"

    for name, arguments in (
        ("by-file", ("caller", "remove", "by-file")),
        ("by-file", ("caller", "rotate-key", "by-file")),
        ("by-file", ("caller", "revoke", "by-file", "shop")),
        ("shop", ("token", "disable", "shop")),
        ("shop", ("token", "remove", "shop")),
    ):
        ran = shell(*arguments)

        assert (ran.status, ran.out, ran.err) == (1, "", told.format(name))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tokens: [", "gateway.yaml:1: the file: isn't YAML: "),
        (TOKENS.replace("account", "all"), "gateway.yaml:3: tokens[0].kind: should be 'account', 'source' or 'channel'"),
        (TOKENS.replace("secrets/shop", "none"), "gateway.yaml:3: tokens[0].value.file: the file can't be read: No such file or directory"),
        ("callers: [{name: taken}]", "gateway.yaml:1: callers[0]: a caller named taken was added otherwise: rename one of the two, or "),
    ],
)
def test_a_wrong_file_stops_the_start(prepared: Served, shell_of: Callable[[Path], Shell], text: str, told: str) -> None:
    """It ends with status 2 and one line that says what and where; a clash with what was made otherwise does too."""
    shell = shell_of(prepared.folder / "state")
    shell.set(CONFIG_FILE=str(prepared.path), PORT="0")
    administer(lambda ada: ada.add_caller(NewCaller("taken")))
    prepared.path.write_text(text, encoding="utf-8")

    ran = shell("serve")

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("GATEWAY_CONFIG_FILE: ")
    assert told in ran.err


def test_without_a_file_a_hangup_does_nothing(upstream: str, tmp_path: Path) -> None:
    """The signal, whose default is to end a process, is heard and changes nothing."""
    port = free_port()
    variables = environment(STATE_DIR=tmp_path / "state", UPSTREAM_URL=upstream, PORT=port)
    with started("serve", variables=variables, folder=tmp_path / "serve") as gateway:
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")

        assert gateway.stop() == 0


APPLYING = """
import asyncio, os, sys
from pathlib import Path
from app.declaration import Sources, apply, read_declaration
from app.opening import open_state
from app.settings import load_settings

async def main():
    declaration = read_declaration(Path(sys.argv[1]), Sources(), os.environ, ["link-orders"])
    async with open_state(load_settings()) as (engine, keyring):
        sys.stdin.readline()
        print(sum((await apply(engine, keyring, declaration)).changes.values()))

asyncio.run(main())
"""


def test_of_processes_at_once_one_does_it(prepared: Served, shell_of: Callable[[Path], Shell]) -> None:
    """Processes that apply the same file to the same database at once are let in one after the other; the changes are made once."""
    shell = shell_of(prepared.folder / "state")
    assert shell("token", "list").status == 0
    arguments = [sys.executable, "-c", APPLYING, str(prepared.path)]
    variables = prepared.variables | {"PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(arguments, env=variables, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=30)[0] for process in processes]

    assert sorted(printed) == ["0\n", "0\n", "7\n"]
    assert len(shell("audit", "list", "--json").document) == 8  # the first is the chain's own
