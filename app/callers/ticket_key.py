"""The key that signs tickets, and tickets as text: JWTs with Ed25519 (RFC 7519, RFC 8037), read as RFC 8725 would have it.

One algorithm, one key, an explicit type, an issuer and an audience of our own: nothing in a ticket's header chooses how it is checked,
since it must be the very header that this key writes. So no library for JWTs at large is needed, which would take twice as long.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.callers.jose import decoded, header_of
from app.callers.presented import Jwt, invalid
from app.domain import PageTicket

__all__ = ["TicketKey", "is_ticket"]

TYPE = "flxpoint-ticket+jwt"
ALGORITHM = "EdDSA"
ISSUER = AUDIENCE = "flxpoint-gateway"
REQUIRED = frozenset({"iss", "aud", "jti", "iat", "exp", "sub", "bas", "org", "tok", "ops"})


def is_ticket(text: Jwt) -> bool:
    """Whether a JWT says that it is a ticket; nothing of it is proven yet."""
    return header_of(text).get("typ") == TYPE


class TicketKey:
    """An Ed25519 key (RFC 8032).

    Args:
        seed: its 32 secret bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key()
        key_id = hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:16]
        self._header = _encoded(orjson.dumps({"alg": ALGORITHM, "kid": key_id, "typ": TYPE}))

    def sign(self, ticket: PageTicket) -> str:
        """The ticket as text, for its page."""
        signed = f"{self._header}.{_encoded(orjson.dumps(_claims(ticket)))}"
        return f"{signed}.{_encoded(self._private.sign(signed.encode()))}"

    def read(self, text: Jwt) -> PageTicket:
        """The ticket that this key signed. Its times are not looked at.

        Raises:
            CredentialsInvalid: it is another key's, altered, or no ticket.
        """
        signed, _, signature = text.text.rpartition(".")
        header, _, claims = signed.partition(".")
        if header != self._header:
            raise invalid()
        try:
            self._public.verify(decoded(signature), signed.encode())
            read = orjson.loads(decoded(claims))
        except (InvalidSignature, ValueError):
            raise invalid() from None
        if not isinstance(read, dict) or not _is_whole(read):
            raise invalid()
        return _ticket(read)


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


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


def _is_whole(claims: Mapping[str, Any]) -> bool:
    """Whether it is a ticket with all that bounds one, as those of older gateways are not."""
    return REQUIRED.issubset(claims) and (claims["iss"], claims["aud"]) == (ISSUER, AUDIENCE)


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
