"""What a request brings to prove who calls: read from its headers, and told apart by form alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.callers.keys import GatewayKey, parse_key
from app.errors import CredentialsInvalid, CredentialsMissing, UpstreamTokenPresented

__all__ = ["Jwt", "Presented", "credential_of", "invalid"]

BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE | re.ASCII)
LARGEST = 8 * 1024  # characters, each of which was a byte
JWT_FORM = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Presented:
    """A request's credential headers, each with all its values, and where it comes from.

    `address` is the client's, as the trusted proxies tell it; `origins` every value of the header `Origin`; `host` that of `Host`.
    """

    authorization: Sequence[str] = ()
    x_api_token: Sequence[str] = ()
    address: str | None = None
    origins: Sequence[str] = ()
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Jwt:
    """A credential in the form of a JWT (RFC 7519), of 8 KiB at most, of which nothing is believed yet."""

    text: str


def credential_of(presented: Presented) -> GatewayKey | Jwt:
    """The one credential that the headers hold.

    Raises:
        CredentialsMissing
        CredentialsInvalid: there are several, or one that is none, or is larger than 8 KiB, which is seen before anything is read.
        UpstreamTokenPresented: `X-API-TOKEN` holds what is no credential of the gateway's.
    """
    if _is_too_large(presented):
        raise invalid(recorded_as="credential-too-large")
    tokens_given = [value for value in presented.x_api_token if value]
    if any(_read(value) is None for value in tokens_given):
        detail = "X-API-TOKEN held no gateway credential; callers never send a Flxpoint token here"
        raise UpstreamTokenPresented(detail)
    texts = {_bearer(value) for value in presented.authorization} | set(tokens_given)
    if not texts:
        detail = "give a gateway key as `Authorization: Bearer <key>` or in X-API-TOKEN"
        raise CredentialsMissing(detail)
    credential = _read(texts.pop())
    if texts or credential is None:
        raise invalid()
    return credential


def invalid(*, recorded_as: str | None = None) -> CredentialsInvalid:
    """The one answer to every credential that proves nobody, whatever is wrong with it; `recorded_as` is for the record alone."""
    return CredentialsInvalid("the credential is not valid", recorded_as=recorded_as)


def _is_too_large(presented: Presented) -> bool:
    beside = len("Bearer ")
    return any(len(value) > LARGEST + beside for value in presented.authorization) or any(
        len(value) > LARGEST for value in presented.x_api_token
    )


def _read(text: str) -> GatewayKey | Jwt | None:
    return parse_key(text) or (Jwt(text) if JWT_FORM.fullmatch(text) else None)


def _bearer(header: str) -> str:
    match = BEARER.fullmatch(header)
    return match[1] if match else ""
