"""The tokens that a running server knows: which one a call goes with, and its value at the moment of a send."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain import Caller, Operation, TokenRef, TokenValue
from app.errors import (
    OperationNotGranted,
    StartRefused,
    TokenAmbiguous,
    TokenKindNotAccepted,
    TokenNotGranted,
    TokenUnavailable,
)
from app.storage.tables import tokens
from app.vault.keyring import Keyring, Sealed, SealedWrongly
from app.vault.registry import place_of, sealed_in, token_of

__all__ = ["Vault"]


@dataclass(frozen=True, slots=True)
class _Held:
    token: TokenRef
    sealed: Sealed


VaultContents = dict[str, _Held]
"""The tokens of one snapshot, by their IDs."""


class Vault:
    """The tokens as of the last `use`, sealed also in memory."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._held: dict[str, _Held] = {}

    async def load(self, connection: AsyncConnection) -> None:
        """Read all tokens and use them.

        Raises:
            StartRefused: some don't open with the master keys that are here; the message names them. Nothing is changed then.
        """
        self.use(await self.read(connection))

    async def read(self, connection: AsyncConnection) -> VaultContents:
        """Read all tokens, on this snapshot of the database, without using them yet.

        Raises:
            StartRefused: some don't open with the master keys that are here; the message names them.
        """
        rows = (await connection.execute(select(tokens))).mappings().all()
        held = {row["id"]: _Held(token_of(row), sealed_in(row)) for row in rows}
        closed = [one.token.name for one in held.values() if not self._opens(one)]
        if closed:
            message = f"GATEWAY_MASTER_KEYS: these tokens don't open with the master keys that are here: {', '.join(sorted(closed))}"
            raise StartRefused(message)
        return held

    def use(self, contents: VaultContents) -> None:
        """From now on the tokens are these."""
        self._held = contents

    @property
    def tokens(self) -> list[TokenRef]:
        """All tokens."""
        return [one.token for one in self._held.values()]

    def choose(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef:
        """The token that a call goes with: the one wanted, else the caller's default, else its only one.

        Raises:
            TokenNotGranted, OperationNotGranted, TokenAmbiguous: the caller's grants don't settle it.
            TokenUnavailable: it is disabled.
            TokenKindNotAccepted: the operation takes other kinds.
        """
        token = self._granted(caller, operation, wanted)
        if not token.enabled:
            detail = f"the token {token.name} is disabled"
            raise TokenUnavailable(detail)
        if token.kind not in operation.token_kinds:
            accepted = sorted(operation.token_kinds)
            detail = f"{operation.id} takes tokens of kind {' or '.join(accepted)}; {token.name} is of kind {token.kind}"
            raise TokenKindNotAccepted(detail, token=token.name, kind=token.kind.value, accepted=[kind.value for kind in accepted])
        return token

    def open(self, token_id: str) -> tuple[TokenRef, TokenValue]:
        """The token as it is now, and its value, for one send.

        Raises:
            TokenUnavailable: it was disabled or removed since the call came in.
        """
        held = self._held.get(token_id)
        if held is None or not held.token.enabled:
            detail = "the token was disabled or removed while the call waited"
            raise TokenUnavailable(detail)
        secret = self._keyring.open(held.sealed, place_of(held.token.id, held.token.name))
        return held.token, TokenValue(secret.decode("ascii"))

    def _granted(self, caller: Caller, operation: Operation, wanted: str | None) -> TokenRef:
        known = {grant.token_name: grant for grant in caller.grants if grant.token_id in self._held}
        if wanted is not None and wanted not in known:
            detail = "the caller has no grant for a token of this name"
            raise TokenNotGranted(detail)
        usable = {name: grant for name, grant in known.items() if grant.covers(operation.id)}
        if wanted is not None:
            usable = {name: grant for name, grant in usable.items() if name == wanted}
        if not usable:
            detail = f"the caller has no grant for {operation.id}"
            raise OperationNotGranted(detail)
        default = [grant for grant in usable.values() if grant.token_id == caller.default_token_id]
        if len(usable) > 1 and not default:
            detail = "the caller may use several tokens: name one in the header Gateway-Token"
            raise TokenAmbiguous(detail, tokens=sorted(usable))
        return self._held[(default or list(usable.values()))[0].token_id].token

    def _opens(self, held: _Held) -> bool:
        try:
            self._keyring.open(held.sealed, place_of(held.token.id, held.token.name))
        except SealedWrongly:
            return False
        return True
