"""The key that signs tickets, and tickets as text: JWTs with Ed25519 (RFC 7519, RFC 8037), read as RFC 8725 would have it.

One algorithm, one key, an explicit type, an issuer and an audience of our own: nothing in a ticket's header chooses how it is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.callers.presented import Jwt, invalid
from app.domain import PageTicket

__all__ = ["TicketKey", "is_ticket"]

TYPE = "flxpoint-ticket+jwt"
ALGORITHM = "EdDSA"
ISSUER = AUDIENCE = "flxpoint-gateway"
REQUIRED = ["iss", "aud", "jti", "iat", "exp", "sub", "bas", "org", "tok", "ops"]
# The times are compared by the verifier, on its own clock and to the second.
OPTIONS: Any = {"require": REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False}


def is_ticket(text: Jwt) -> bool:
    """Whether a JWT says that it is a ticket; nothing of it is proven yet."""
    try:
        return bool(jwt.get_unverified_header(text.text).get("typ") == TYPE)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False


class TicketKey:
    """An Ed25519 key (RFC 8032).

    Args:
        seed: its 32 secret bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key()
        self._id = hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:16]

    def sign(self, ticket: PageTicket) -> str:
        """The ticket as text, for its page."""
        return jwt.encode(_claims(ticket), self._private, ALGORITHM, headers={"typ": TYPE, "kid": self._id})

    def read(self, text: Jwt) -> PageTicket:
        """The ticket that this key signed. Its times are not looked at.

        Raises:
            CredentialsInvalid: it is another key's, altered, or no ticket.
        """
        try:
            read = jwt.decode_complete(text.text, self._public, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE, options=OPTIONS)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise invalid() from None
        if (read["header"].get("typ"), read["header"].get("kid")) != (TYPE, self._id):
            raise invalid()
        return _ticket(read["payload"])


def _claims(ticket: PageTicket) -> dict[str, Any]:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": ticket.id,
        "iat": ticket.issued_at,
        "exp": ticket.expires_at,
        "sub": ticket.caller_id,
        "bas": ticket.basis,
        "org": ticket.origin,
        "tok": ticket.token_id,
        "ops": list(ticket.operations),
    }
    return claims if ticket.ids is None else claims | {"par": ticket.parameter, "ids": list(ticket.ids)}


def _ticket(claims: Mapping[str, Any]) -> PageTicket:
    """What this key signed has its claims in their form: nobody else can make one."""
    return PageTicket(
        id=claims["jti"],
        caller_id=claims["sub"],
        basis=claims["bas"],
        origin=claims["org"],
        token_id=claims["tok"],
        operations=tuple(claims["ops"]),
        parameter=claims.get("par"),
        ids=tuple(claims["ids"]) if "ids" in claims else None,
        issued_at=claims["iat"],
        expires_at=claims["exp"],
    )
