"""`serve` with a certificate of its own, as a real process: who gets in, and how the certificate is renewed."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.callers import CallerRow, GatewayKey, NewCaller
from app.cli.state import administer
from app.domain import Role
from tests import loopback
from tests.servers.authority import Authority

from .processes import Process, environment, free_port, run, started, until
from .shell import Shell

READY = "/gateway/health/ready"


@dataclass
class Secured:
    """A gateway with a certificate, which its authority made."""

    folder: Path
    authority: Authority
    port: int
    process: Process

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def mount(self) -> Path:
        """The folder that its certificate is in."""
        return self.folder / "mount"

    def ready(self) -> httpx2.Response:
        """Whether it is ready, asked by who trusts the authority and makes a new connection."""
        return httpx2.get(self.url + READY, verify=self.authority.context, trust_env=False)

    def shown(self) -> str:
        """The name in the certificate that it shows."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        with self.authority.context.wrap_socket(plain, server_hostname="localhost") as connection:
            found = connection.getpeercert()
        assert found
        return str(dict(part[0] for part in found["subject"])["commonName"])  # type: ignore[misc]

    def renew(self, name: str) -> None:
        """Exchange the pair as Kubernetes does: a new folder, and one link that is swapped."""
        self.authority.make(self.mount / name, name)
        (self.mount / "..next").symlink_to(name)
        (self.mount / "..next").rename(self.mount / "..data")


@contextmanager
def secured(folder: Path, *options: str, **settings: object) -> Iterator[Secured]:
    """A gateway that serves with a certificate named `first`, mounted as Kubernetes mounts a Secret."""
    port, mount = free_port(), folder / "mount"
    authority = Authority(folder)
    authority.make(mount / "first", "first")
    (mount / "..data").symlink_to("first")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    variables = environment(STATE_DIR=folder / "state", TLS_CERT=mount / "tls.crt", TLS_KEY=mount / "tls.key", **settings)
    with started("serve", "--port", str(port), *options, variables=variables, folder=folder / "log") as process:
        found = Secured(folder, authority, port, process)

        def answers() -> bool:
            assert process.process.poll() is None, process.err
            try:
                return found.ready().is_success
            except httpx2.TransportError:
                return False

        until(answers)
        yield found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A gateway for the whole file."""
    folder = tmp_path_factory.mktemp("tls")
    with secured(folder) as found:
        yield found


@pytest.fixture
def admin_key(gateway: Secured, shell_of: Callable[[Path], Shell]) -> str:
    """The key of an operator whom the gateway knows."""
    shell_of(gateway.folder / "state")
    made: tuple[CallerRow, GatewayKey] = administer(
        lambda administration: administration.add_caller(NewCaller(os.urandom(4).hex(), role=Role.ADMIN))
    )
    return made[1].reveal()


def test_only_tls_is_spoken(gateway: Secured) -> None:
    """A request in plain HTTP gets no answer, and one over TLS does."""
    with pytest.raises(httpx2.TransportError):
        loopback.get(f"http://127.0.0.1:{gateway.port}{READY}")

    assert gateway.ready().json()["status"] == "ready"


def test_tls_1_1_isnt_spoken(gateway: Secured) -> None:
    """Whoever can't do better is turned away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_commands_reach_it_with_the_companys_authority(gateway: Secured, admin_key: str) -> None:
    """`SSL_CERT_FILE` names whom a command trusts; without it the certificate is refused, since nobody whom it trusts made it."""
    variables = environment(URL=gateway.url, KEY=admin_key, STATE_DIR=gateway.folder / "elsewhere")
    trusting = variables | {"SSL_CERT_FILE": str(gateway.authority.file)}
    until(lambda: run("lanes", "--json", variables=trusting).stdout == "[]\n", within=20)
    followed = run("link", "--resume", "00000000-0000-0000-0000-000000000000", variables=trusting)
    refused = run("lanes", "--json", variables=variables)

    assert "not-found: there is no job" in followed.stderr
    assert refused.returncode == 2
    assert "certificate verify failed" in refused.stderr


def test_the_socket_for_commands_stays_as_it_is(gateway: Secured) -> None:
    """It has an owner and a mode; commands on the same machine need no certificate."""
    assert run("lanes", "--json", variables=environment(STATE_DIR=gateway.folder / "state")).stdout == "[]\n"


@pytest.mark.parametrize("asked", [False, True])
def test_another_certificate_is_taken_without_a_restart(gateway: Secured, *, asked: bool) -> None:
    """When its files change, as Kubernetes changes them, and at once on SIGHUP; open connections stay."""
    name = f"renewed-{asked}"
    with httpx2.Client(base_url=gateway.url, verify=gateway.authority.context, trust_env=False) as client:
        client.get(READY).raise_for_status()
        gateway.renew(name)
        if asked:
            gateway.process.process.send_signal(signal.SIGHUP)
        until(lambda: gateway.shown() == name)
        answer = client.get(READY)

    assert answer.is_success


def test_a_broken_pair_changes_nothing(gateway: Secured) -> None:
    """It is logged once, and the old certificate is shown on until there is a good one."""
    before, told = gateway.shown(), gateway.process.err.count("the old one stays")
    _, key = gateway.authority.make(gateway.mount / "broken", "broken")
    gateway.authority.make(gateway.mount / "other", "other")
    key.write_bytes((gateway.mount / "other" / "tls.key").read_bytes())
    (gateway.mount / "..next").symlink_to("broken")
    (gateway.mount / "..next").rename(gateway.mount / "..data")
    gateway.process.wait_for_line("the old one stays", told + 1)
    meanwhile = gateway.shown()
    gateway.renew("mended")
    until(lambda: gateway.shown() == "mended")

    assert meanwhile == before
    assert gateway.process.err.count("the old one stays") == told + 1


def test_a_wrong_pair_stops_the_start(gateway: Secured, tmp_path: Path) -> None:
    """In one line, with status 2."""
    ran = run("serve", variables=environment(STATE_DIR=tmp_path, TLS_CERT=gateway.authority.file, TLS_KEY=gateway.mount / "tls.key"))

    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1] == (
        f"GATEWAY_TLS_KEY: {gateway.mount}/tls.key isn't the key of the certificate in {gateway.authority.file}"
    )


def test_who_says_nothing_doesnt_hold_the_end(tmp_path: Path) -> None:
    """A connection without a handshake isn't waited for; the server ends in order, as it does without TLS."""
    with secured(tmp_path) as gateway, socket.create_connection(("127.0.0.1", gateway.port)):
        gateway.shown()
        gateway.process.process.terminate()
        status = gateway.process.process.wait(30)

    assert status == 0
