"""Whether a server can be reached, found out without a request."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.upstream import NotReached, reach
from tests.cli.processes import free_port


class Listening:
    """A server that keeps what it is sent by its one client."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read to the end."""
        try:
            self.received.set_result(await reader.read())
        except ConnectionError:
            self.received.set_result(b"")
        finally:
            writer.transport.abort()


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[Listening]:
    """A server on the loopback address."""
    server = Listening()
    serving = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = serving.sockets[0].getsockname()[1]
    async with serving:
        yield server


def certified(folder: Path) -> ssl.SSLContext:
    """What a server needs that certified itself for 127.0.0.1; its certificate is in `authority.pem`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "upstream")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (folder / "authority.pem").write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "authority.pem", folder / "key.pem")
    return context


async def test_a_server_without_tls_is_reached() -> None:
    """A connection is enough, and nothing is sent over it."""
    async with listening() as server:
        told = await reach(f"http://127.0.0.1:{server.port}/some/path")

        received = await server.received

    assert (told, received) == (f"127.0.0.1:{server.port} answers, without TLS", b"")


async def test_a_server_with_tls_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is verified, and nothing is sent beyond TLS's own handshake."""
    context = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with listening(context) as server:
        told = await reach(f"https://127.0.0.1:{server.port}")

        received = await server.received

    assert (told, received) == (f"127.0.0.1:{server.port} answers, TLSv1.3", b"")


async def test_a_certificate_of_nobody_known_is_told(tmp_path: Path) -> None:
    """A server whose certificate no authority of the system stands for isn't reached."""
    async with listening(certified(tmp_path)) as server:
        with pytest.raises(NotReached, match=r"^127\.0\.0\.1:\d+: its certificate isn't valid: self-signed certificate$"):
            await reach(f"https://127.0.0.1:{server.port}")


async def test_nobody_there_is_told() -> None:
    """So is a server that doesn't speak TLS."""
    with pytest.raises(NotReached, match=r"^127\.0\.0\.1:\d+: "):
        await reach(f"http://127.0.0.1:{free_port()}")


async def test_a_name_that_no_host_can_have_is_told() -> None:
    """An empty label, or one that is too long for the DNS, is an address that leads nowhere."""
    for host in ("a..b", "a" * 64):
        with pytest.raises(NotReached, match=rf"^{host}:443: this is no host's name$"):
            await reach(f"https://{host}/")


async def test_a_server_that_keeps_silent_is_told() -> None:
    """A handshake that doesn't come about ends after the time that it may take."""
    async with listening() as server:
        with pytest.raises(NotReached, match=r"^127\.0\.0\.1:\d+ doesn't answer within 0\.05 s$"):
            await reach(f"https://127.0.0.1:{server.port}", within=0.05)
        await server.received
