"""A certificate authority for tests, and the pairs that it makes for servers of this machine."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


class Authority:
    """It vouches for 127.0.0.1 and localhost, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "authority.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority")
        own = _certificate(self._name, self._name, self._key, timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    @property
    def context(self) -> ssl.SSLContext:
        """A client's context that trusts this authority, and no other."""
        return ssl.create_default_context(cafile=self.file)

    def make(self, folder: Path, name: str, *, valid: timedelta = timedelta(days=1), password: bytes | None = None) -> tuple[Path, Path]:
        """Write a certificate and its key into a folder, as cert-manager names them; where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        made = _certificate(_name(name), self._name, key, valid).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        sealing = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        cert_file, key_file = folder / "tls.crt", folder / "tls.key"
        cert_file.write_bytes(made.public_bytes(PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(PEM, PKCS8, sealing))
        return cert_file, key_file


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(whose: x509.Name, by: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta) -> x509.CertificateBuilder:
    """Begun two days ago, so that it may have ended."""
    now = datetime.now(UTC)
    return x509.CertificateBuilder(by, whose, key.public_key(), x509.random_serial_number(), now - timedelta(days=2), now + valid)
