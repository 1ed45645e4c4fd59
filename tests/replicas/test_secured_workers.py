"""`serve --workers` with a certificate: all of the workers show the same one, and are told of a new one."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.cli.processes import run, unmeasured
from tests.cli.test_tls import secured
from tests.servers.authority import Authority
from tests.servers.postgres import Postgres
from tests.servers.valkey import valkey

WORKERS = 2
READ = "a certificate was read"


def test_every_worker_takes_the_new_certificate(postgres_server: Postgres, tmp_path: Path) -> None:
    """The supervisor passes SIGHUP on, and no connection is shown the old one after that, whichever worker takes it."""
    stores = {"DATABASE_URL": postgres_server.new_database(), "MASTER_KEYS": f"k1:{'A' * 43}=", "SHUTDOWN_GRACE": 1}
    with valkey() as turns, secured(tmp_path, "--workers", str(WORKERS), VALKEY_URL=turns.address, **stores) as gateway:
        gateway.process.wait_for_line("starting to serve", WORKERS)
        before = {gateway.shown() for _ in range(10)}
        gateway.renew("second")
        gateway.process.process.send_signal(signal.SIGHUP)
        gateway.process.wait_for_line(READ, 2 * WORKERS)
        after = {gateway.shown() for _ in range(10)}
        status = gateway.process.stop()

    assert (before, after) == ({"first"}, {"second"})
    assert status == 0


def test_a_wrong_pair_ends_them_all(postgres_server: Postgres, tmp_path: Path) -> None:
    """The first worker says why, and no other is started."""
    cert, key = Authority(tmp_path).make(tmp_path / "pair", "gateway")
    key.write_bytes(b"no key")
    with valkey() as turns:
        stores = {"DATABASE_URL": postgres_server.new_database(), "VALKEY_URL": turns.address}
        ran = run(
            "serve", "--workers", str(WORKERS), variables=unmeasured(STATE_DIR=tmp_path / "state", TLS_CERT=cert, TLS_KEY=key, **stores)
        )

    assert ran.returncode == 2
    assert ran.stderr.count("should hold a private key in PEM") == 1
