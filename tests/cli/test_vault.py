"""Replacing the master key: in processes of their own, beside a gateway that serves."""

from __future__ import annotations

import base64
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from .processes import REPOSITORY, command, environment, free_port, run, started, unmeasured, until
from .shell import Ran, Shell
from .test_serve import Served

VALUES = {name: f"a-simulated-token-value-{name}" for name in ("books", "shop", "toys")}
OLD_KEY, NEW_KEY = (f"{name}:{base64.b64encode(bytes([number]) * 32).decode()}" for number, name in enumerate(("k1", "k2")))
BOTH_KEYS = f"{NEW_KEY},{OLD_KEY}"


@dataclass
class Keyed(Served):
    """A gateway whose master keys are given."""

    keys: str = OLD_KEY

    @property
    def variables(self) -> dict[str, str]:
        """With the keys."""
        return environment(STATE_DIR=self.state_dir, UPSTREAM_URL=self.upstream, MASTER_KEYS=self.keys)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Keyed]:
    """A gateway that serves with the old key, before a simulator that knows three tokens."""
    port = free_port()
    tokens = [argument for name, value in VALUES.items() for argument in ("--token", f"{name}={value}:account")]
    with ExitStack() as stack:
        simulating = started("simulate", "--port", str(port), *tokens, variables=unmeasured(), folder=tmp_path / "simulate")
        simulator = stack.enter_context(simulating)
        served = Keyed(tmp_path, f"http://127.0.0.1:{port}", stack)
        served.start()
        simulator.wait_for(f"{served.upstream}/_simulator/statistics")
        yield served


def rotated(variables: dict[str, str], name: str, value: str) -> subprocess.CompletedProcess[str]:
    """`token rotate` in a process of its own."""
    arguments = command("token", "rotate", name)
    return subprocess.run(arguments, input=value, env=variables, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)


def test_a_master_key_is_replaced_beside_a_gateway_that_serves(served: Keyed, shell_of: Callable[[Path], Shell]) -> None:
    """Started with both keys, sealed anew while it serves, and then started without the old one, it sends the same values."""
    shell = shell_of(served.state_dir)
    shell.set(MASTER_KEYS=OLD_KEY)
    for name, value in VALUES.items():
        assert shell("token", "add", name, "--kind", "account", given=value).status == 0
    key = shell("caller", "add", "service", "--grant", "shop", "--json").document["key"]
    until(lambda: not served.refused_as(key, "credentials-invalid"))
    before = shell("token", "show", "shop", "--json").document
    served.gateway.stop()
    served.keys = BOTH_KEYS
    served.start()

    shell.set(MASTER_KEYS=BOTH_KEYS)
    status = [shell("vault", "status", "--json").document]
    first, again = shell("vault", "reseal"), shell("vault", "reseal")
    meanwhile = served.link(key, "1001")
    status.append(shell("vault", "status", "--json").document)
    served.gateway.stop()
    served.keys = NEW_KEY
    served.start()
    afterwards = served.link(key, "1002")

    assert first == Ran(0, "resealed 6 under k2; 0 stood under it already\n", "")
    assert again == Ran(0, "resealed 0 under k2; 6 stood under it already\n", "")
    assert [[(use["id"], use["first"], use["tokens"], use["keys"]) for use in uses] for uses in status] == [
        [("k2", True, 0, 0), ("k1", False, 3, 3)],
        [("k2", True, 3, 3), ("k1", False, 0, 0)],
    ]
    assert (meanwhile.json(), afterwards.json()) == ([1001], [1002])
    shell.set(MASTER_KEYS=NEW_KEY)
    assert shell("token", "show", "shop", "--json").document == before
    assert "vault:resealed" in shell("audit", "list").out
    assert "6 under k2" in shell("audit", "list").out
    [record] = [one for one in shell("audit", "list", "--json").document if one["name"] == "vault:resealed"]
    assert (record["key_id"], record["count"], record["by"].partition(":")[0]) == ("k2", 6, "command")


def test_the_key_is_replaced_while_tokens_are_rotated(tmp_path: Path, shell_of: Callable[[Path], Shell]) -> None:
    """Whatever the order in which rotations and sealing come, every token holds the value that it was given last."""
    shell = shell_of(tmp_path / "state")
    shell.set(MASTER_KEYS=OLD_KEY)
    for name, value in VALUES.items():
        assert shell("token", "add", name, "--kind", "account", given=value).status == 0
    variables = environment(STATE_DIR=tmp_path / "state", MASTER_KEYS=BOTH_KEYS)
    ended: list[subprocess.CompletedProcess[str]] = []
    rotations = [
        threading.Thread(target=lambda name=name: ended.append(rotated(variables, name, f"a-new-token-value-{name}"))) for name in VALUES
    ]

    for thread in rotations:
        thread.start()
    resealed = [run("vault", "reseal", variables=variables) for _ in range(2)]
    for thread in rotations:
        thread.join()
    resealed.append(run("vault", "reseal", variables=variables))

    assert [one.returncode for one in (*ended, *resealed)] == [0] * 6
    shell.set(MASTER_KEYS=NEW_KEY)
    for name in VALUES:
        held = shell("token", "rotate", name, given=f"a-new-token-value-{name}")
        assert held == Ran(1, "", "conflict: this value is held already: one token has one lane, under one name\n")


def test_a_wrong_key_stops_the_start_with_the_tokens_names(tmp_path: Path, shell_of: Callable[[Path], Shell]) -> None:
    """`serve` with keys that don't open what is sealed ends with status 2 and names the tokens, no key and no value."""
    shell = shell_of(tmp_path / "state")
    shell.set(MASTER_KEYS=OLD_KEY)
    for name, value in VALUES.items():
        shell("token", "add", name, "--kind", "account", given=value)

    for keys in (NEW_KEY, "k1:" + NEW_KEY.partition(":")[2]):
        ran = run("serve", "--port", "0", variables=environment(STATE_DIR=tmp_path / "state", MASTER_KEYS=keys))

        refusal = "GATEWAY_MASTER_KEYS: these tokens don't open with the master keys that are here: books, shop, toys"
        assert (ran.returncode, ran.stdout) == (2, "")
        assert refusal in ran.stderr.splitlines()
        assert not any(secret in ran.stderr for secret in (keys.partition(":")[2], *VALUES.values()))


def test_nothing_is_resealed_beside_a_gateway_that_lacks_the_key(served: Keyed, shell_of: Callable[[Path], Shell]) -> None:
    """It would lose every token at its next look; so it is restarted first."""
    shell = shell_of(served.state_dir)
    shell.set(MASTER_KEYS=BOTH_KEYS)

    refused = shell("vault", "reseal")

    line = "the gateway that runs here doesn't have the master key k2: restart it with both keys, the new one first, then reseal\n"
    assert refused == Ran(2, "", line)
    assert next((use["id"], use["tokens"]) for use in shell("vault", "status", "--json").document) == ("k2", 0)


def test_a_start_with_a_wrong_key_changes_nothing(tmp_path: Path, shell_of: Callable[[Path], Shell]) -> None:
    """Nothing is made, declared or disabled before it is known that all that is sealed opens: afterwards the right key starts as ever."""
    shell = shell_of(tmp_path / "state")
    shell.set(MASTER_KEYS=OLD_KEY)
    shell("token", "add", "shop", "--kind", "account", given=VALUES["shop"])
    declared = tmp_path / "gateway.yaml"
    declared.write_text("callers: [{name: from-git, grants: [{token: shop}]}]", encoding="ascii")
    state = tmp_path / "state"

    refused = run("serve", "--port", "0", variables=environment(STATE_DIR=state, MASTER_KEYS=NEW_KEY, CONFIG_FILE=declared))
    rows = [_rows(state, table) for table in ("sealed_keys", "callers")]
    port = free_port()
    with started(
        "serve", "--port", str(port), variables=environment(STATE_DIR=state, MASTER_KEYS=OLD_KEY), folder=tmp_path / "logs"
    ) as gateway:
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")

    assert refused.returncode == 2
    assert rows == [["checkpoint-signing", "token-fingerprint"], []]


def _rows(state: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(state / "gateway.db")) as database:
        return [row[0] for row in database.execute(f"SELECT name FROM {table}")]  # noqa: S608 - our own names


def test_a_copied_row_stops_the_start(tmp_path: Path, shell_of: Callable[[Path], Shell]) -> None:
    """Who copies one token's sealed value into another's row can't have it sent in the other's name."""
    shell = shell_of(tmp_path / "state")
    shell.set(MASTER_KEYS=OLD_KEY)
    for name, value in VALUES.items():
        shell("token", "add", name, "--kind", "account", given=value)
    with closing(sqlite3.connect(tmp_path / "state" / "gateway.db")) as database, database:
        database.execute(
            "UPDATE tokens SET (sealed, nonce, key_id) = (SELECT sealed, nonce, key_id FROM tokens WHERE name = 'shop') WHERE name = 'toys'"
        )

    ran = run("serve", "--port", "0", variables=environment(STATE_DIR=tmp_path / "state", MASTER_KEYS=OLD_KEY))

    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].endswith("don't open with the master keys that are here: toys")


def test_keys_are_shown_for_people(shell: Shell) -> None:
    """`vault status` says in a line for each key whether it seals, whether it is here, and how much stands under it."""
    shell.set(MASTER_KEYS=OLD_KEY)
    shell("token", "add", "shop", "--kind", "account", given=VALUES["shop"])
    shell.set(MASTER_KEYS=NEW_KEY)

    lines = [line.split() for line in shell("vault", "status").out.splitlines()]

    assert lines == [
        ["master", "key", "seals", "is", "here", "tokens", "keys"],
        ["k2", "new", "values", "yes", "0", "0"],
        ["k1", "no", "1", "2"],
    ]
    assert shell("vault", "reseal") == Ran(2, "", "GATEWAY_MASTER_KEYS: these tokens don't open with the master keys that are here: shop\n")
