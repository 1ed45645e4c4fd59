"""Tokens for tests of the vault."""

from __future__ import annotations

from app.domain import Burst, Pacing, TokenKind, TokenValue
from app.vault import Keyring, NewToken

KEYRING = Keyring({"k1": bytes(range(32))})
VALUE = "a-token-value-0001"
OTHER_VALUE = "a-token-value-0002"


def new_token(  # noqa: PLR0913 - a token's members
    name: str = "shop",
    value: str = VALUE,
    *,
    kind: TokenKind = TokenKind.ACCOUNT,
    rate: int = 2,
    burst: Burst = Burst.WINDOW,
    pacing: Pacing = Pacing.LEARNED,
) -> NewToken:
    """What a token is made of, with nothing to say but what matters."""
    return NewToken(name, kind, TokenValue(value), rate, burst, pacing)
