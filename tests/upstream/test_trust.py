"""Whom the client trusts: the certificates that the system trusts, and no proxy."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.domain import Linked, TokenValue, Unreachable
from app.upstream import open_upstream
from tests.upstream.peers import answering
from tests.upstream.test_client import QUICK, VALUE, Moments, send_of


class Keeping:
    """A peer that keeps what it was sent, and answers as Flxpoint does."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[1]")


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, path = serialization.Encoding.PEM, folder / "server.pem"
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_a_certificate_that_nobody_vouches_for_gets_no_token(tmp_path: Path) -> None:
    """Nothing is written to such a peer, and the failure is certain."""
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    upstream, moments = open_upstream(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", QUICK), Moments()
    outcome = await upstream.send(send_of(1), TokenValue(VALUE), moments)
    await upstream.aclose()
    server.close()

    assert isinstance(outcome, Unreachable)
    assert not outcome.uncertain
    assert not moments.writes
    assert b"".join(received) == b""


async def test_no_proxy_of_the_environment_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can set a variable doesn't get to see the tokens."""
    flxpoint, proxy = Keeping(), Keeping()
    async with answering(flxpoint) as url, answering(proxy) as elsewhere:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, elsewhere)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        upstream = open_upstream(url, QUICK)
        outcome = await upstream.send(send_of(1), TokenValue(VALUE), Moments())
        await upstream.aclose()

    assert outcome == Linked((1,))
    assert len(flxpoint.heads) == 1
    assert proxy.heads == []
