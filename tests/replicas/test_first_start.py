"""Several replicas that start at once where nothing is yet: one makes what all need, and all serve with it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx2
import pytest

from tests import loopback
from tests.cli.processes import free_port, started, unmeasured
from tests.servers.postgres import Postgres
from tests.servers.valkey import valkey

REPLICAS = 3
VALUE = "a-simulated-token-value-0001"
KEY = f"fgk_{'a' * 12}_{'A' * 43}"
PAGE = "https://shop.example"
DECLARED = f"""
tokens:
- {{name: shop, kind: account, value: {{file: value}}}}
callers:
- {{name: orders, grants: [{{token: shop}}], origins: ["{PAGE}"], keys: [{{file: key}}]}}
"""


@dataclass(frozen=True)
class Begun:
    """The replicas' addresses, and their database."""

    urls: list[str]
    postgres: Postgres
    database: str


@pytest.fixture(scope="module")
def begun(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """Replicas that were started together, with one configuration file, on an empty database; all are ready."""
    folder, upstream, address = tmp_path_factory.mktemp("begun"), free_port(), postgres_server.new_database()
    for name, content in (("value", VALUE), ("key", KEY), ("gateway.yaml", DECLARED)):
        (folder / name).write_text(content, encoding="ascii")
    master_key = f"k1:{base64.b64encode(os.urandom(32)).decode()}"
    with ExitStack() as stack:
        shared = {
            "DATABASE_URL": address,
            "VALKEY_URL": stack.enter_context(valkey()).address,
            "UPSTREAM_URL": f"http://127.0.0.1:{upstream}",
            "CONFIG_FILE": folder / "gateway.yaml",
            "MASTER_KEYS": master_key,
            "SHUTDOWN_GRACE": 1,
        }
        simulating = ("simulate", "--port", str(upstream), "--token", f"shop={VALUE}:account")
        stack.enter_context(started(*simulating, variables=unmeasured(), folder=folder / "simulator"))
        urls, replicas = [], []
        for number in range(REPLICAS):
            port, own = free_port(), folder / f"replica-{number}"
            variables = unmeasured(**shared, STATE_DIR=own / "state")
            replicas.append(stack.enter_context(started("serve", "--port", str(port), variables=variables, folder=own)))
            urls.append(f"http://127.0.0.1:{port}")
        for replica, url in zip(replicas, urls, strict=True):
            replica.wait_for(f"{url}/gateway/health/ready")
        yield Begun(urls, postgres_server, address.rpartition("/")[2])


def test_all_serve_what_the_file_declares(begun: Begun) -> None:
    """Each answers a call of the declared caller with the declared token, and what was declared was made once."""
    headers = {"Authorization": f"Bearer {KEY}", "Prefer": "wait=30"}
    calls = [
        loopback.patch(f"{url}/orders/link?orderIds={1001 + number}", headers=headers, timeout=60) for number, url in enumerate(begun.urls)
    ]
    made = begun.postgres.ask("SELECT name FROM audit_records WHERE name IN ('token:added', 'caller:added')", begun.database)

    assert [call.json() for call in calls] == [[1001 + number] for number in range(REPLICAS)]
    assert sorted(made) == ["caller:added", "token:added"]


def test_what_one_signed_the_others_take(begun: Begun) -> None:
    """A page's ticket of one replica is good at all."""
    ticket = loopback.post(f"{begun.urls[0]}/gateway/tickets", json={"origin": PAGE}, headers={"Authorization": f"Bearer {KEY}"}).json()
    headers = {"Authorization": f"Bearer {ticket['ticket']}", "Origin": PAGE}

    assert {loopback.get(f"{url}/gateway/jobs", headers=headers).status_code for url in begun.urls} == {httpx2.codes.OK}
