"""Proving the record of a database that is there: read only, by the gateway's own key or by public keys kept elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.audit import Signer, Trusted
from app.errors import StartRefused
from app.settings import Settings
from app.storage import StorageError
from app.storage.embedded_scan import scanning
from app.storage.migrate import known_schemas, newest_schema
from app.storage.postgresql_scan import scanning_server
from app.storage.scan import Damaged, Scan
from app.vault import CHECKPOINT_SIGNING, Sealed, load_keyring, open_own_key

__all__ = ["held_signer", "read_only", "require_readable", "trusted_keys"]

PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
SEALED = "SELECT key_id, nonce, sealed FROM sealed_keys WHERE name = ?"


@contextmanager
def read_only(settings: Settings) -> Iterator[Scan]:
    """The database, on one snapshot; nothing is made, and nothing brought to a newer schema.

    Raises:
        StartRefused: there is none, or it can't be read, or its schema isn't this version's.
    """
    try:
        with _scanning(settings) as scan:
            _require_schema(scan)
            yield scan
    except (Damaged, StorageError) as error:
        message = f"GATEWAY_DATABASE_URL: {_told(settings)} can't be read: {error}{_log_beside(settings)}"
        raise StartRefused(message) from error


def require_readable(settings: Settings) -> None:
    """See that there is a database to read.

    Raises:
        StartRefused: there is none, or it can't be read, or its schema isn't this version's.
    """
    with read_only(settings):
        pass


def _scanning(settings: Settings) -> AbstractContextManager[Scan]:
    if not settings.is_embedded:
        return scanning_server(settings.database)
    if settings.database_path.is_file():
        return scanning(settings.database_path)
    message = f"GATEWAY_STATE_DIR: there is no database at {settings.database_path}"
    raise StartRefused(message)


def _told(settings: Settings) -> str:
    return f"the database at {settings.database_path}" if settings.is_embedded else "the database"


def trusted_keys(settings: Settings, scan: Scan, files: Sequence[Path]) -> Trusted:
    """The keys of these PEM files or, where there are none, the gateway's own.

    Raises:
        StartRefused: a file holds none, or the gateway's own can't be opened.
    """
    if files:
        return Trusted(*(public for file in files for public in _publics(file)))
    signer = held_signer(settings, scan)
    return Trusted(signer.public) if signer else Trusted()


def held_signer(settings: Settings, scan: Scan) -> Signer | None:
    """The gateway's own signing key; None where the database holds none.

    Raises:
        StartRefused: the master keys that it needs aren't here.
        Damaged: it can't be read, or isn't stored as the gateway stores it.
    """
    row = scan.one(SEALED, CHECKPOINT_SIGNING)
    if row is None:
        return None
    given = settings.master_keys.get_secret_value() if settings.master_keys else None
    keyring = load_keyring(given, settings.keys_file, may_make=False)
    return Signer(open_own_key(keyring, _sealed(row), CHECKPOINT_SIGNING))


def _sealed(row: tuple[object, ...]) -> Sealed:
    key_id, nonce, sealed = row
    if type(key_id) is bytearray and type(nonce) is bytes and type(sealed) is bytes:
        return Sealed(key_id.decode(errors="replace"), nonce, sealed)
    message = "the signing key isn't stored as the gateway stores it"
    raise Damaged(message)


def _log_beside(settings: Settings) -> str:
    """What may help where there is a log that SQLite can't read without writing beside it."""
    path = settings.database_path
    log = path.with_name(f"{path.name}-wal")
    if not settings.is_embedded or not log.exists() or os.access(path.parent, os.W_OK):
        return ""
    return f"; {log} can be read only where files can be made beside it: copy both there"


def _require_schema(scan: Scan) -> None:
    found = scan.schema() or "none"
    if found != newest_schema():
        advice = "bring it there with `db upgrade`" if found in {"none", *known_schemas()} else "read it with the newer one that made it"
        message = f"GATEWAY_DATABASE_URL: the database has schema {found}, this version {newest_schema()}: {advice}"
        raise StartRefused(message)


def _publics(file: Path) -> list[bytes]:
    try:
        keys = [load_pem_public_key(block) for block in PEM.findall(file.read_bytes())]
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        message = f"--key: {file} can't be read: {error}"
        raise StartRefused(message) from error
    found = [key.public_bytes_raw() for key in keys if isinstance(key, Ed25519PublicKey)]
    if not found or len(found) != len(keys):
        message = f"--key: {file} should hold Ed25519 public keys in PEM, as `audit key` prints them"
        raise StartRefused(message)
    return found
