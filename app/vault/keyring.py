"""The master keys, and sealing with them: AES-256-GCM (NIST SP 800-38D) with the place of the secret as associated data."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import StartRefused
from app.storage.files import sync_folder

__all__ = ["Keyring", "Sealed", "SealedWrongly", "load_keyring", "parse_master_keys"]

KEY_BYTES = 32
NONCE_BYTES = 12
LONGEST_KEY_ID = 64

log = structlog.get_logger(__name__)


class SealedWrongly(Exception):
    """The ciphertext doesn't open: another key, another place, or altered bytes."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext with the ID of the key that sealed it and its nonce."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


class Keyring:
    """The master keys: the first seals, all open."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._sealing_id = next(iter(self._ciphers))

    @property
    def ids(self) -> tuple[str, ...]:
        """The keys' IDs; the first is the one that seals."""
        return tuple(self._ciphers)

    def seal(self, secret: bytes, place: str) -> Sealed:
        """Encrypt a secret for one place (say, one row); it opens nowhere else."""
        nonce = os.urandom(NONCE_BYTES)
        ciphertext = self._ciphers[self._sealing_id].encrypt(nonce, secret, place.encode())
        return Sealed(self._sealing_id, nonce, ciphertext)

    def open(self, sealed: Sealed, place: str) -> bytes:
        """Decrypt what was sealed for that very place.

        Raises:
            SealedWrongly: the key isn't here, or the ciphertext isn't for this place, or was altered.
        """
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            message = f"the master key {sealed.key_id} is not here"
            raise SealedWrongly(message)
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, place.encode())
        except InvalidTag as error:
            message = f"it doesn't open with the master key {sealed.key_id}"
            raise SealedWrongly(message) from error


def parse_master_keys(text: str, source: str) -> Keyring:
    """Read `id:base64,id:base64`; each key has 32 bytes.

    Raises:
        StartRefused: names the source and what is wrong, never the value.
    """
    keys: dict[str, bytes] = {}
    for place, entry in enumerate(text.strip().split(","), start=1):
        key_id, _, encoded = entry.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if not key_id or len(key_id) > LONGEST_KEY_ID or len(key) != KEY_BYTES or key_id in keys:
            message = f"{source}: entry {place} should be `id:` and 32 bytes in base64, each id once"
            raise StartRefused(message)
        keys[key_id] = key
    return Keyring(keys)


def load_keyring(text: str | None, path: Path, *, may_make: bool) -> Keyring:
    """The keyring from the variable's text or, without one, from the file, which is made where that is allowed.

    Args:
        text: `GATEWAY_MASTER_KEYS`, if set.
        path: the key file.
        may_make: whether a missing file may be made (never in production, nor beside a database that holds secrets).

    Raises:
        StartRefused: no key is there and none may be made, or one can't be read.
    """
    if text is not None:
        return parse_master_keys(text, "GATEWAY_MASTER_KEYS")
    try:
        if may_make and not path.exists():
            _make_key_file(path)
        return parse_master_keys(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        message = f"GATEWAY_MASTER_KEYS: set it, or GATEWAY_MASTER_KEYS_FILE: there is no master key at {path}, and none is made here"
        raise StartRefused(message) from None
    except (OSError, UnicodeDecodeError) as error:
        message = f"GATEWAY_MASTER_KEYS_FILE: {path} can't be read or made: {error}"
        raise StartRefused(message) from error


def _make_key_file(path: Path) -> None:
    """Write the file whole and then link it to its name, so that of two processes neither reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    entry = f"k{secrets.token_hex(4)}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(entry)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
        sync_folder(path.parent)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    log.warning("a master key was made; keep a copy: without it the tokens can't be opened", path=str(path))
