"""The rows of the tokens: adding, rotating, disabling, removing. Every function works in the transaction that it is handed."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import NAME_PATTERN, Burst, Pacing, TokenKind, TokenRef, TokenValue, new_id, utc_now
from app.errors import Conflict, NotFound, ParameterInvalid
from app.storage import touch_revision
from app.storage.tables import callers, sealed_keys, tokens
from app.vault.keyring import Keyring, Sealed, SealedWrongly
from app.vault.own_keys import own_key

__all__ = [
    "HIGHEST_RATE",
    "Fingerprints",
    "NewToken",
    "TokenChange",
    "TokenRow",
    "TokenStore",
    "is_value",
    "place_of",
    "read_fingerprints",
    "sealed_in",
    "token_of",
]

VALUE_PATTERN = re.compile(r"[!-~]{16,512}", re.ASCII)
HIGHEST_RATE = 1_000
HASH_BYTES = 32
FINGERPRINT_KEY = "token-fingerprint"
NAME_IS_VALUE = "the name is a token's value, which must stand nowhere in the open: take another name, and another value at Flxpoint"
VALUE_IS_NAME = "the value is a token's or a caller's name, which stands in the open: have another value made at Flxpoint"


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a token is made of; `rate` in requests per second."""

    name: str
    kind: TokenKind
    value: TokenValue
    rate: int = 2
    burst: Burst = Burst.WINDOW
    pacing: Pacing = Pacing.LEARNED


@dataclass(frozen=True, slots=True)
class TokenChange:
    """Traits that a token is to have; None leaves one as it is."""

    kind: TokenKind | None = None
    rate: int | None = None
    burst: Burst | None = None
    pacing: Pacing | None = None

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return self == TokenChange()

    def of(self, token: TokenRef) -> TokenRef:
        """The token with these traits."""
        return replace(
            token,
            kind=self.kind or token.kind,
            rate=token.rate if self.rate is None else self.rate,
            burst=self.burst or token.burst,
            pacing=self.pacing or token.pacing,
        )


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as operators see it; `fingerprint` tells two values apart and says nothing of either.

    `declared`: it stands in the configuration file, and is changed there only.
    """

    token: TokenRef
    fingerprint: str
    created_at: str
    rotated_at: str
    declared: bool = False


class TokenStore:
    """The tokens in the database. `value` arguments are plain; rows hold them sealed, with a keyed hash that makes each unique."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def add(self, connection: AsyncConnection, new: NewToken) -> TokenRow:
        """Add a token.

        Raises:
            ParameterInvalid: the name, the rate or the value isn't one, or the name is a value, or the value a name.
            Conflict: the name, or the value, is in use.
        """
        _check(NAME_PATTERN.fullmatch(new.name), "a token's name has 1 to 64 letters, digits, dots, dashes and underscores")
        _check_rate(new.rate)
        await self.check_name(connection, new.name)
        _check(new.name != new.value.reveal(), NAME_IS_VALUE)
        if await self._row(connection, new.name):
            message = f"there is a token named {new.name} already"
            raise Conflict(message)
        token_id, now = new_id(), utc_now()
        row = {
            "id": token_id,
            "name": new.name,
            "kind": new.kind,
            "rate": new.rate,
            "burst": new.burst,
            "pacing": new.pacing,
            "enabled": 1,
            "version": 1,
            "created_at": now,
            "rotated_at": now,
        }
        row |= await self._sealed(connection, token_id, new.name, new.value)
        await connection.execute(insert(tokens).values(row))
        await touch_revision(connection)
        return await self.show(connection, new.name)

    async def rotate(self, connection: AsyncConnection, name: str, value: TokenValue) -> TokenRow:
        """Put a new value in place of the old one; calls that wait will go with the new one.

        Raises:
            NotFound: no such token.
            ParameterInvalid: it is no value, or one that is a name too.
            Conflict: the value is held already, by this token or another.
        """
        token = (await self.show(connection, name)).token
        changed = await self._sealed(connection, token.id, name, value)
        changed |= {"version": tokens.c.version + 1, "rotated_at": utc_now()}
        await connection.execute(update(tokens).where(tokens.c.id == token.id).values(changed))
        await touch_revision(connection)
        return await self.show(connection, name)

    async def vacate(self, connection: AsyncConnection, name: str) -> None:
        """Let the token's value be another's. In the same transaction the token is rotated: until then it has no lane that is known."""
        await connection.execute(update(tokens).where(tokens.c.name == name).values(value_hash=secrets.token_bytes(HASH_BYTES)))

    async def change(self, connection: AsyncConnection, ref: TokenRef) -> TokenRow:
        """Give the token of that name the kind, rate, burst and pacing of `ref`.

        Raises:
            NotFound, ParameterInvalid: no such token; the rate isn't one.
        """
        _check_rate(ref.rate)
        token = (await self.show(connection, ref.name)).token
        traits = {"kind": ref.kind, "rate": ref.rate, "burst": ref.burst, "pacing": ref.pacing}
        await connection.execute(update(tokens).where(tokens.c.id == token.id).values(traits))
        await touch_revision(connection)
        return await self.show(connection, ref.name)

    async def set_declared(self, connection: AsyncConnection, name: str, *, declared: bool) -> TokenRow:
        """Say whether the token stands in the configuration file.

        Raises:
            NotFound: no such token.
        """
        token = (await self.show(connection, name)).token
        await connection.execute(update(tokens).where(tokens.c.id == token.id).values(declared=int(declared)))
        return await self.show(connection, name)

    async def set_enabled(self, connection: AsyncConnection, name: str, *, enabled: bool) -> TokenRow:
        """Allow or stop the token's use.

        Raises:
            NotFound: no such token.
        """
        token = (await self.show(connection, name)).token
        await connection.execute(update(tokens).where(tokens.c.id == token.id).values(enabled=int(enabled)))
        await touch_revision(connection)
        return await self.show(connection, name)

    async def remove(self, connection: AsyncConnection, name: str) -> TokenRow:
        """Remove the token and every grant of it.

        Raises:
            NotFound: no such token.
        """
        row = await self.show(connection, name)
        await connection.execute(delete(tokens).where(tokens.c.id == row.token.id))
        await touch_revision(connection)
        return row

    async def show(self, connection: AsyncConnection, name: str) -> TokenRow:
        """One token.

        Raises:
            NotFound: no such token.
        """
        row = await self._row(connection, name)
        if row is None:
            # The name isn't said back: what was given for one may be a value.
            message = "there is no token of that name"
            raise NotFound(message)
        return _read(row)

    async def all(self, connection: AsyncConnection) -> list[TokenRow]:
        """Every token, by name."""
        return [_read(row) for row in (await connection.execute(select(tokens).order_by(tokens.c.name))).mappings()]

    async def lanes_of(self, connection: AsyncConnection, values: Sequence[TokenValue]) -> list[str]:
        """Which lanes these values have: a token has a value just where it has its lane.

        Raises:
            ParameterInvalid: one isn't a value.
        """
        key = await self._fingerprint_key(connection)
        return [_hash(key, value).hex() for value in values]

    async def check_name(self, connection: AsyncConnection, name: str) -> None:
        """Make sure that a name that is to be a token's or a caller's is no token's value, which would then stand in the open.

        Raises:
            ParameterInvalid
        """
        value = TokenValue(name)
        if is_value(value):
            value_hash = _hash(await self._fingerprint_key(connection), value)
            _check(not await _is_held(connection, value_hash), NAME_IS_VALUE)

    async def _row(self, connection: AsyncConnection, name: str) -> RowMapping | None:
        return (await connection.execute(select(tokens).where(tokens.c.name == name))).mappings().one_or_none()

    async def _sealed(self, connection: AsyncConnection, token_id: str, name: str, value: TokenValue) -> dict[str, object]:
        value_hash = _hash(await self._fingerprint_key(connection), value)
        _check(value.reveal() not in await _names(connection), VALUE_IS_NAME)
        sealed = self._keyring.seal(value.reveal().encode("ascii"), place_of(token_id, name))
        if await _is_held(connection, value_hash):
            message = "this value is held already: one token has one lane, under one name"
            raise Conflict(message)
        return {
            "key_id": sealed.key_id,
            "nonce": sealed.nonce,
            "sealed": sealed.ciphertext,
            "value_hash": value_hash,
        }

    async def _fingerprint_key(self, connection: AsyncConnection) -> bytes:
        """The key of the values' hash."""
        return await own_key(connection, self._keyring, FINGERPRINT_KEY)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The keyed hashes of tokens' values, by which a value is known without being opened."""

    hashes: frozenset[bytes] = frozenset()
    key: bytes | None = field(default=None, repr=False)

    def __contains__(self, value: TokenValue) -> bool:
        """Whether it is a token's. As long as the hashes' key doesn't open, whatever has the form of a value is taken for one."""
        if not self.hashes or not is_value(value):
            return False
        return self.key is None or _hash(self.key, value) in self.hashes

    def after(self, earlier: Fingerprints) -> Fingerprints:
        """These, and those that were known earlier: a value that was rotated or removed may be good at Flxpoint for a while."""
        return Fingerprints(self.hashes | earlier.hashes, self.key)


async def read_fingerprints(connection: AsyncConnection, keyring: Keyring) -> Fingerprints:
    """Those of the tokens in the database. Nothing is written: without tokens there need be no key yet."""
    row = (await connection.execute(select(sealed_keys).where(sealed_keys.c.name == FINGERPRINT_KEY))).mappings().one_or_none()
    hashes = frozenset((await connection.execute(select(tokens.c.value_hash))).scalars())
    with suppress(SealedWrongly):
        key = keyring.open(Sealed(row["key_id"], row["nonce"], row["sealed"]), FINGERPRINT_KEY) if row else None
        return Fingerprints(hashes, key)
    return Fingerprints(hashes)


def is_value(value: TokenValue) -> bool:
    """Whether the value has a form that a token's may have."""
    return VALUE_PATTERN.fullmatch(value.reveal()) is not None


def place_of(token_id: str, name: str) -> str:
    """The associated data that ties a sealed value to its row."""
    return f"token\n{token_id}\n{name}"


def sealed_in(row: RowMapping) -> Sealed:
    """The ciphertext of a row."""
    return Sealed(row["key_id"], row["nonce"], row["sealed"])


def token_of(row: RowMapping) -> TokenRef:
    """The token of a row."""
    return TokenRef(
        id=row["id"],
        name=row["name"],
        kind=TokenKind(row["kind"]),
        rate=row["rate"],
        burst=Burst(row["burst"]),
        enabled=bool(row["enabled"]),
        version=row["version"],
        lane=row["value_hash"].hex(),
        pacing=Pacing(row["pacing"]),
    )


def _read(row: RowMapping) -> TokenRow:
    return TokenRow(token_of(row), row["value_hash"].hex()[:8], row["created_at"], row["rotated_at"], bool(row["declared"]))


def _hash(key: bytes, value: TokenValue) -> bytes:
    """What tells the value from all others, and says nothing of it without the key."""
    _check(is_value(value), "a token's value has 16 to 512 visible ASCII characters and no blanks")
    return hmac.digest(key, value.reveal().encode("ascii"), hashlib.sha256)


async def _is_held(connection: AsyncConnection, value_hash: bytes) -> bool:
    return (await connection.execute(select(tokens.c.id).where(tokens.c.value_hash == value_hash))).first() is not None


async def _names(connection: AsyncConnection) -> set[str]:
    """All names that stand in the open. They are compared here, since no statement should hold a value."""
    return {name for table in (tokens, callers) for name in (await connection.execute(select(table.c.name))).scalars()}


def _check_rate(rate: int) -> None:
    _check(1 <= rate <= HIGHEST_RATE, f"a token's rate is 1 to {HIGHEST_RATE} requests a second")


def _check(condition: object, message: str) -> None:
    if not condition:
        raise ParameterInvalid(message)
