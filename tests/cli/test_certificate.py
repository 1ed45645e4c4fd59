"""The gateway's own certificate: what it refuses, and when another takes its place."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.cli.certificate import Certificate
from app.errors import StartRefused
from tests.servers.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of this test's own."""
    return Authority(tmp_path)


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """The name in the certificate that a server's context shows to a client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asked = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    while not _done(asked):
        _done(answering)
    found = asked.getpeercert()
    assert found
    return str(dict(part[0] for part in found["subject"])["commonName"])  # type: ignore[misc]


def _done(side: ssl.SSLObject) -> bool:
    """Whether a side has all that it needs of the other; else it has said what it can."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def refusal(cert: Path, key: Path) -> str:
    """The one line with which a pair is refused."""
    with pytest.raises(StartRefused) as refused:
        Certificate(cert, key)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_that_isnt_there_is_refused(authority: Authority, tmp_path: Path) -> None:
    """The line says which of both, and why."""
    cert, key = authority.make(tmp_path / "pair", "gateway")

    assert refusal(tmp_path / "none", key) == f"GATEWAY_TLS_CERT: {tmp_path}/none can't be read: No such file or directory"
    assert refusal(cert, tmp_path / "none") == f"GATEWAY_TLS_KEY: {tmp_path}/none can't be read: No such file or directory"
    assert refusal(cert, tmp_path) == f"GATEWAY_TLS_KEY: {tmp_path} can't be read: not a regular file"


def test_what_is_no_certificate_or_no_key_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Files that were taken for one another are told, without what they hold."""
    cert, key = authority.make(tmp_path / "pair", "gateway")

    assert refusal(key, key) == f"GATEWAY_TLS_CERT: {key} should hold a certificate in PEM, and those of its chain after it"
    assert refusal(cert, cert) == f"GATEWAY_TLS_KEY: {cert} should hold a private key in PEM"


def test_a_key_with_a_password_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Nobody is asked for it: a start doesn't hang at a terminal."""
    cert, key = authority.make(tmp_path / "pair", "gateway", password=b"a-password")

    assert refusal(cert, key) == f"GATEWAY_TLS_KEY: {key} is sealed with a password: nobody could give it at a restart"


def test_another_certificates_key_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Both are good, but not for each other."""
    cert, _ = authority.make(tmp_path / "pair", "gateway")
    _, key = authority.make(tmp_path / "other", "gateway")

    assert refusal(cert, key) == f"GATEWAY_TLS_KEY: {key} isn't the key of the certificate in {cert}"


def test_an_old_protocol_isnt_spoken(authority: Authority, tmp_path: Path) -> None:
    """TLS 1.2 is the least, and no certificate is asked of the other side."""
    context = Certificate(*authority.make(tmp_path / "pair", "gateway")).context

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


def test_both_may_be_in_one_file(authority: Authority, tmp_path: Path) -> None:
    """As some tools write them."""
    cert, key = authority.make(tmp_path / "pair", "gateway")
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())

    assert shaken(Certificate(both, both).context, authority.context) == "gateway"


def test_what_callers_or_other_users_could_object_to_is_told(authority: Authority, tmp_path: Path) -> None:
    """An expired certificate and a key that everybody may read are served with, and warned of."""
    cert, key = authority.make(tmp_path / "pair", "gateway", valid=timedelta(days=-1))
    key.chmod(0o644)
    with capture_logs() as logs:
        Certificate(cert, key)

    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert [line.partition(";")[0] for line in warnings] == [
        "the certificate has expired",
        "every user of this machine can read the private key",
    ]


async def until_told(sign: asyncio.Event, certificate: Certificate, client: ssl.SSLContext, name: str) -> None:
    """Ask for a reading again until a certificate of that name is shown."""
    async with asyncio.timeout(20):
        while shaken(certificate.context, client) != name:
            sign.set()
            await asyncio.sleep(0.02)


async def test_a_sign_has_the_files_read_again(authority: Authority, tmp_path: Path) -> None:
    """The context that the server holds shows the new certificate from then on, also to who asks for no name."""
    certificate, sign = Certificate(*authority.make(tmp_path / "pair", "first")), asyncio.Event()
    before = shaken(certificate.context, authority.context)
    async with certificate.watching(sign):
        authority.make(tmp_path / "pair", "second")
        await until_told(sign, certificate, authority.context, "second")

    assert before == "first"


async def test_a_pair_that_cant_be_used_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    """The old one is shown on, the log says why, and once the files are right they are taken."""
    cert, key = authority.make(tmp_path / "pair", "first")
    certificate, sign = Certificate(cert, key), asyncio.Event()
    with capture_logs() as logs:
        async with certificate.watching(sign), asyncio.timeout(20):
            key.write_bytes(b"half a key")
            sign.set()
            while not [line for line in logs if line["log_level"] == "error"]:
                await asyncio.sleep(0.02)
            meanwhile = shaken(certificate.context, authority.context)
            authority.make(tmp_path / "pair", "second")
            await until_told(sign, certificate, authority.context, "second")

    assert meanwhile == "first"
    assert (
        next(line["reason"] for line in logs if line["log_level"] == "error") == f"GATEWAY_TLS_KEY: {key} should hold a private key in PEM"
    )
