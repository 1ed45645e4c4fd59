"""The tokens that a running server knows: which one a call goes with, and its value at the moment of a send."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import Caller, Grant, Operation, TokenRef, TokenValue
from app.errors import (
    OperationNotGranted,
    TokenAmbiguous,
    TokenKindNotAccepted,
    TokenNotGranted,
    TokenUnavailable,
)
from app.storage.tables import tokens
from app.vault.keyring import Keyring, Sealed, SealedWrongly
from app.vault.registry import Fingerprints, place_of, read_fingerprints, sealed_in, token_of

__all__ = ["Vault"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    token: TokenRef
    sealed: Sealed
    opens: bool


@dataclass(frozen=True, slots=True)
class VaultContents:
    """The tokens of one snapshot, by their IDs, and the fingerprints of their values."""

    held: dict[str, _Held]
    fingerprints: Fingerprints


class Vault:
    """The tokens as of the last `use`, sealed also in memory.

    One that doesn't open with the master keys that are here is known and can't be used; the others go on.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._held: dict[str, _Held] = {}
        self._fingerprints = Fingerprints()

    async def load(self, connection: AsyncConnection) -> None:
        """Read all tokens and use them."""
        self.use(await self.read(connection))

    async def read(self, connection: AsyncConnection) -> VaultContents:
        """Read all tokens, on this snapshot of the database, without using them yet."""
        rows = (await connection.execute(select(tokens))).mappings().all()
        return VaultContents({row["id"]: self._read(row) for row in rows}, await read_fingerprints(connection, self._keyring))

    def use(self, contents: VaultContents) -> None:
        """From now on the tokens are these."""
        before, self._held = self.closed, contents.held
        self._fingerprints = contents.fingerprints.after(self._fingerprints)
        if self.closed and self.closed != before:
            log.error("tokens don't open with the master keys that are here; they can't be used", tokens=self.closed)

    @property
    def closed(self) -> list[str]:
        """The names of the tokens that don't open."""
        return sorted(one.token.name for one in self._held.values() if not one.opens)

    @property
    def tokens(self) -> list[TokenRef]:
        """All tokens."""
        return [one.token for one in self._held.values()]

    def token(self, token_id: str) -> TokenRef | None:
        """The token of that ID, if there is one."""
        held = self._held.get(token_id)
        return held.token if held else None

    def is_value(self, text: str) -> bool:
        """Whether the text is, exactly, the value of one of these tokens, or of one known before. It costs a hash, and opens nothing."""
        return TokenValue(text) in self._fingerprints

    def choose(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef:
        """The token that a call goes with: the one wanted, else the caller's default, else its only one.

        Raises:
            TokenNotGranted, OperationNotGranted, TokenAmbiguous: the caller's grants don't settle it.
            TokenUnavailable: it is disabled, or doesn't open.
            TokenKindNotAccepted: the operation takes other kinds.
        """
        held = self._granted(caller, operation, wanted)
        _require_usable(held, f"the token {held.token.name} is disabled")
        _require_kind(held.token, operation)
        return held.token

    def still_takes(self, token_id: str, operation: Operation) -> None:
        """Make sure that a token chosen before is still of a kind that the operation takes. One that is gone is `open`'s to refuse.

        Raises:
            TokenKindNotAccepted
        """
        held = self._held.get(token_id)
        if held:
            _require_kind(held.token, operation)

    def open(self, token_id: str) -> tuple[TokenRef, TokenValue]:
        """The token as it is now, and its value, for one send.

        Raises:
            TokenUnavailable: it was disabled or removed since the call came in, or doesn't open.
        """
        held, gone = self._held.get(token_id), "the token was disabled or removed while the call waited"
        if held is None:
            raise TokenUnavailable(gone)
        _require_usable(held, gone)
        secret = self._keyring.open(held.sealed, place_of(held.token.id, held.token.name))
        return held.token, TokenValue(secret.decode("ascii"))

    def _granted(self, caller: Caller, operation: Operation, wanted: str | None) -> _Held:
        if wanted is None:
            usable = [grant for grant in caller.grants if grant.token_id in self._held and grant.covers(operation.id)]
        else:
            usable = self._wanted(caller, operation, wanted)
        if not usable:
            detail = f"the caller has no grant for {operation.id}"
            raise OperationNotGranted(detail)
        default = [grant for grant in usable if grant.token_id == caller.default_token_id]
        if len(usable) > 1 and not default:
            detail = "the caller may use several tokens: name one in the header Gateway-Token"
            raise TokenAmbiguous(detail, tokens=sorted(grant.token_name for grant in usable))
        return self._held[(default or usable)[0].token_id]

    def _wanted(self, caller: Caller, operation: Operation, name: str) -> list[Grant]:
        grant = caller.by_name.get(name)
        if grant is None or grant.token_id not in self._held:
            detail = "the caller has no grant for a token of this name"
            raise TokenNotGranted(detail)
        return [grant] if grant.covers(operation.id) else []

    def _read(self, row: RowMapping) -> _Held:
        token, sealed = token_of(row), sealed_in(row)
        try:
            self._keyring.open(sealed, place_of(token.id, token.name))
        except SealedWrongly:
            return _Held(token, sealed, opens=False)
        return _Held(token, sealed, opens=True)


def _require_usable(held: _Held, disabled: str) -> None:
    if not held.token.enabled:
        raise TokenUnavailable(disabled)
    if not held.opens:
        detail = f"the token {held.token.name} doesn't open with the master keys that this gateway has; an operator must see to that"
        raise TokenUnavailable(detail)


def _require_kind(token: TokenRef, operation: Operation) -> None:
    if token.kind not in operation.token_kinds:
        accepted = sorted(operation.token_kinds)
        detail = f"{operation.id} takes tokens of kind {' or '.join(accepted)}; {token.name} is of kind {token.kind}"
        raise TokenKindNotAccepted(detail, token=token.name, kind=token.kind.value, accepted=[kind.value for kind in accepted])
