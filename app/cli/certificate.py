"""The gateway's own certificate: read at the start, and again on SIGHUP and when its files change."""

from __future__ import annotations

import asyncio
import ssl
import stat
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.background import hears, kept_running
from app.declaration import NotReadable, Sources
from app.errors import StartRefused
from app.settings import PREFIX

__all__ = ["Certificate"]

LOOK_SECONDS = 1.0
CERT, KEY = f"{PREFIX}TLS_CERT", f"{PREFIX}TLS_KEY"

log = structlog.get_logger(__name__)


class Certificate:
    """What the gateway proves itself with to whoever connects: TLS 1.2 or later, and no certificate asked of the other side.

    Args:
        cert: PEM file of the certificate and those of its chain, the gateway's own first.
        key: PEM file of its private key.

    Raises:
        StartRefused: they can't be served with; in one line, which is wrong and how.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._sources = Sources()
        self._decided = True
        self.expires: datetime
        self.context = self._current = self._read()
        self.context.sni_callback = self._choose

    def watching(self, hangup: asyncio.Event) -> AbstractAsyncContextManager[None]:
        """Read the files again, while the context lasts, at each `hangup` and when one of them has changed.

        New connections get the new certificate, those that are open stay as they are. Where the new one can't be used, the old one
        stays, and an error in the log says why.
        """
        return kept_running(self._watch(hangup))

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called within each handshake, also where no name is asked for: a pair is exchanged as a whole or not at all."""
        connection.context = self._current

    async def _watch(self, hangup: asyncio.Event) -> None:
        while True:
            await self._look(asked=await hears(hangup, LOOK_SECONDS))

    async def _look(self, *, asked: bool) -> None:
        try:
            if await asyncio.to_thread(self._sources.changed) or asked or not self._decided:
                self._decided = True
                self._current = await asyncio.to_thread(self._read)
        except StartRefused as error:
            log.error("the new certificate can't be used; the old one stays", reason=str(error), expires=self.expires.isoformat())  # noqa: TRY400 - the reason is all there is to know
        except Exception:
            # The task's outermost edge: the old one stays, and the next look tries again.
            self._decided = False
            log.exception("the certificate can't be read; the old one stays")

    def _read(self) -> ssl.SSLContext:
        # What was read is noted first: files that change meanwhile are read again at the next look.
        self._sources = Sources()
        first = _certificate(self._cert, _content(self._sources, CERT, self._cert))
        _check_key(self._key, _content(self._sources, KEY, self._key))
        context = _context(self._cert, self._key)
        self.expires = first.not_valid_after_utc
        _tell(first, self._key)
        return context


def _content(sources: Sources, variable: str, path: Path) -> bytes:
    try:
        return sources.read(path)
    except NotReadable as error:
        message = f"{variable}: {path} can't be read: {error}"
        raise StartRefused(message) from None


def _certificate(path: Path, content: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        message = f"{CERT}: {path} should hold a certificate in PEM, and those of its chain after it"
        raise StartRefused(message) from None


def _check_key(path: Path, content: bytes) -> None:
    try:
        load_pem_private_key(content, password=None)
    except TypeError:
        message = f"{KEY}: {path} is sealed with a password: nobody could give it at a restart"
        raise StartRefused(message) from None
    except (ValueError, UnsupportedAlgorithm):
        message = f"{KEY}: {path} should hold a private key in PEM"
        raise StartRefused(message) from None


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password OpenSSL would ask the terminal for one, should a sealed key come between.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"{KEY}: {key} isn't the key of the certificate in {cert}"
        else:
            message = f"{CERT}: {cert} and {key} can't be served with: {error.reason or error}"
        raise StartRefused(message) from None
    except OSError as error:
        message = f"{CERT}: {cert} or {key} can't be read: {error.strerror}"
        raise StartRefused(message) from None
    return context


def _tell(first: x509.Certificate, key: Path) -> None:
    expires = first.not_valid_after_utc
    log.info(
        "a certificate was read",
        subject=first.subject.rfc4514_string(),
        expires=expires.isoformat(),
        sha256=first.fingerprint(SHA256()).hex(),
    )
    if expires < datetime.now(UTC):
        log.warning("the certificate has expired; callers will refuse it", expires=expires.isoformat())
    if key.stat().st_mode & stat.S_IRWXO:
        log.warning(
            "every user of this machine can read the private key; its mode should be 0600, or 0440 in a group of its own", file=str(key)
        )
