"""What the pods run, run: with the chart's arguments and variables, in real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.storage.migrate import newest_schema
from tests import loopback
from tests.cli.processes import environment, free_port, run, started
from tests.helm.chart import SCALED_OUT, container, named
from tests.servers.postgres import Postgres


def variables(one: dict[str, Any], **instead: str) -> dict[str, str]:
    """A container's variables, but for what only the cluster has."""
    given: dict[str, str] = {variable["name"]: variable.get("value", "") for variable in one["env"]}
    return environment() | given | instead


def test_the_embedded_pod_serves_and_ends(tmp_path: Path) -> None:
    """Started as its container says, it answers its probes, and ends in order at the SIGTERM."""
    one, port = container({}), free_port()
    state = tmp_path / "volume" / "state"
    given = variables(one, GATEWAY_PORT=str(port), GATEWAY_HOST="127.0.0.1", GATEWAY_STATE_DIR=str(state))
    with started(*one["args"], variables=given, folder=tmp_path / "logs") as gateway:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            gateway.wait_for(f"http://127.0.0.1:{port}{one[probe]['httpGet']['path']}")
        away = loopback.get(f"http://127.0.0.1:{port}/gateway/health/live", headers={"Host": "10.1.2.3:8080"})

        assert away.status_code == 200
        assert gateway.stop() == 0
    assert oct(state.stat().st_mode & 0o777) == "0o700"


def test_the_migration_needs_no_more_than_its_job_has(postgres_server: Postgres, tmp_path: Path) -> None:
    """With the hook's variables alone, without master keys and Valkey, a new database gets the newest schema; twice is no more."""
    (job,) = named("Job", SCALED_OUT)
    (one,) = job["spec"]["template"]["spec"]["containers"]
    given = variables(one, GATEWAY_STATE_DIR=str(tmp_path / "state"), GATEWAY_DATABASE_URL=postgres_server.new_database())
    first, second = (run(*one["args"], variables=given) for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert first.stdout == second.stdout == f"the database has schema {newest_schema()}\n"
