"""`serve` and other commands as real processes on a real PostgreSQL."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.audit import Name
from tests.servers.postgres import Postgres
from tests.servers.valkey import valkey

from .processes import Process, free_port, run, started, unmeasured, until

VALUE = "a-simulated-token-value-0001"
SERVING_ALREADY = "another flxpoint-gateway serves from this database; set GATEWAY_VALKEY_URL to serve from several"

WITHOUT_VALKEY = (
    "a flxpoint-gateway without it serves from this database and counts turns by itself; end it first, and set GATEWAY_VALKEY_URL for all"
)


@pytest.fixture
def variables(postgres_server: Postgres, tmp_path: Path) -> dict[str, str]:
    """What a process is given to work on a new database of the server."""
    address = postgres_server.new_database()
    return unmeasured(STATE_DIR=tmp_path / "state", DATABASE_URL=address, UPSTREAM_URL=f"http://127.0.0.1:{free_port()}")


@contextmanager
def serving(variables: dict[str, str], folder: Path) -> Iterator[tuple[Process, str]]:
    """A gateway that is ready, and its address."""
    port = free_port()
    with started("serve", "--port", str(port), variables=variables, folder=folder) as gateway:
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")
        yield gateway, f"http://127.0.0.1:{port}"


def admit(variables: dict[str, str], folder: Path) -> str:
    """Add a token and a caller that may use it, by commands; the caller's key."""
    value = folder / "value"
    value.write_text(VALUE, encoding="ascii")
    added = run("token", "add", "shop", "--kind", "account", "--value-file", str(value), variables=variables)
    made = run("caller", "add", "order-service", "--grant", "shop", "--json", variables=variables)

    assert (added.returncode, made.returncode) == (0, 0), added.stderr + made.stderr
    return str(json.loads(made.stdout)["key"])


def test_a_call_goes_all_the_way_and_stands_on_record(variables: dict[str, str], tmp_path: Path) -> None:
    """Commands make the schema, a token and a caller; the gateway answers the call, and `audit list` shows each of its records."""
    key = admit(variables, tmp_path)
    port = variables["GATEWAY_UPSTREAM_URL"].rpartition(":")[2]
    simulating = started(
        "simulate", "--port", port, "--token", f"shop={VALUE}:account", variables=unmeasured(), folder=tmp_path / "simulate"
    )
    with simulating as simulator, serving(variables, tmp_path) as (gateway, url):
        simulator.wait_for(f"{variables['GATEWAY_UPSTREAM_URL']}/_simulator/statistics")
        answer = httpx2.patch(f"{url}/orders/link?orderIds=1001", headers={"X-API-TOKEN": key}, trust_env=False, timeout=30)
        ended = gateway.stop()
    listed = run("audit", "list", "--json", variables=variables)

    assert (answer.status_code, answer.json(), ended) == (200, [1001], 0)
    names = [record["name"] for record in json.loads(listed.stdout)]
    assert names[3::-1] == [Name.CALL_INTENT, Name.SEND_INTENT, Name.SEND_OUTCOME, Name.CALL_OUTCOME]


def test_without_valkey_one_serves_from_a_database(variables: dict[str, str], tmp_path: Path) -> None:
    """A second one, with a state folder of its own, is refused in one line; when the first has ended or was killed, the next one serves."""
    other = variables | {"GATEWAY_STATE_DIR": str(tmp_path / "other"), "GATEWAY_PORT": "0"}
    keys = {"GATEWAY_MASTER_KEYS": f"k1:{'A' * 43}="}
    with serving(variables | keys, tmp_path) as (gateway, _):
        refused = run("serve", variables=other | keys)
        gateway.process.kill()
        gateway.process.wait()
    with serving(other | keys, tmp_path / "next") as (following, _):
        ended = following.stop()

    assert (refused.returncode, refused.stderr.splitlines()) == (2, [f"GATEWAY_DATABASE_URL: {SERVING_ALREADY}"])
    assert ended == 0


def test_with_and_without_valkey_none_serve_from_one_database(variables: dict[str, str], tmp_path: Path) -> None:
    """Each would let two calls a second go; whichever comes second is refused in one line that says what to set."""
    keys = {"GATEWAY_MASTER_KEYS": f"k1:{'A' * 43}="}
    other = variables | keys | {"GATEWAY_STATE_DIR": str(tmp_path / "other"), "GATEWAY_PORT": "0"}
    with valkey() as turns:
        sharing = {"GATEWAY_VALKEY_URL": turns.address}
        with serving(variables | keys, tmp_path):
            refused = run("serve", variables=other | sharing)
        with serving(variables | keys | sharing, tmp_path / "sharing"):
            refused_too = run("serve", variables=other)

    assert (refused.returncode, refused_too.returncode) == (2, 2)
    assert refused.stderr.splitlines() == [f"GATEWAY_VALKEY_URL: {WITHOUT_VALKEY}"]
    assert refused_too.stderr.splitlines() == [f"GATEWAY_DATABASE_URL: {SERVING_ALREADY}"]


def test_a_gateway_outlives_its_database(variables: dict[str, str], postgres_server: Postgres, tmp_path: Path) -> None:
    """Where all connections are cut it takes its place anew, and a second one is still refused; it ends where another came first."""
    other = variables | {"GATEWAY_STATE_DIR": str(tmp_path / "other"), "GATEWAY_PORT": "0", "GATEWAY_MASTER_KEYS": f"k1:{'A' * 43}="}
    name = variables["GATEWAY_DATABASE_URL"].rpartition("/")[2]
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - a name of ours
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE "
    held += f"datname = '{name}')"
    with serving(variables | {"GATEWAY_MASTER_KEYS": other["GATEWAY_MASTER_KEYS"]}, tmp_path) as (gateway, _):
        postgres_server.ask(cut)
        until(lambda: postgres_server.ask(held) == ["1"])
        refused = run("serve", variables=other)
        gateway.process.send_signal(signal.SIGSTOP)
        postgres_server.ask(cut)
        with serving(other, tmp_path / "other"):
            gateway.process.send_signal(signal.SIGCONT)
            ended = gateway.process.wait(30)

    assert SERVING_ALREADY in refused.stderr
    assert ended == 0
    assert "another process serves from this database" in gateway.err


def test_a_process_of_an_older_version_starts_again_in_a_rolling_update(
    variables: dict[str, str], postgres_server: Postgres, tmp_path: Path
) -> None:
    """It serves on a schema that a newer version made, where that says that it may, and leaves it alone; else it is refused in one line."""
    database = variables["GATEWAY_DATABASE_URL"].rpartition("/")[2]
    run("db", "upgrade", variables=variables)
    postgres_server.ask("UPDATE alembic_version SET version_num = '9999'", database)
    with serving(variables, tmp_path) as (gateway, _):
        ended = gateway.stop()
    said = run("db", "upgrade", variables=variables).stdout
    postgres_server.ask("UPDATE schema_needs SET revision = '9998'", database)
    refused = run("serve", variables=variables | {"GATEWAY_PORT": "0"})

    assert (ended, said) == (0, "the database has schema 9999\n")
    assert "the schema of a newer version" in gateway.err
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(
        "GATEWAY_DATABASE_URL: the database has schema 9999, which this version doesn't know: it was made by a newer one"
    )
