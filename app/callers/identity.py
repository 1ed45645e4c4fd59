"""The identity provider's JWTs (RFC 7519): whether one holds, and whose it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import jwt
import structlog

from app.callers.claims import Declared, credential_id_of
from app.callers.directory import Directory
from app.callers.jose import header_of
from app.callers.jwks import ALGORITHMS, KeySet
from app.callers.presented import Jwt, invalid
from app.callers.verified import VerifiedJwts
from app.domain import Caller, CredentialKind

__all__ = ["IdentityProvider"]

LEEWAY = 30.0
TICKET_TYPE = "flxpoint-ticket+jwt"
TYPES = frozenset({"jwt", "at+jwt"})
NO_DATE = 253_402_300_800.0
"""The first second after the year 9999, which no date can show. Whoever gives milliseconds is beyond it."""
OPTIONS: jwt.types.Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "iss", "aud"]}
"""Times are checked here, against a clock that can be given, and must be numbers: PyJWT takes texts too."""

log = structlog.get_logger(__name__)


class Keys(Protocol):
    """Who has the provider's keys."""

    @property
    def current(self) -> KeySet | None: ...

    async def having(self, kid: str | None) -> KeySet: ...

    async def renewed(self, seen: KeySet) -> KeySet: ...


class _Untrusted(Exception):
    """Why a JWT proves nobody: for the operator's log, so it holds nothing of the JWT."""


class _NoKeyHolds(_Untrusted):
    """No key verifies it. A new one might."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """The claims of a JWT whose signature, issuer and audience hold by these keys."""

    keys: KeySet
    claims: Mapping[str, object]


class IdentityProvider:
    """Proves callers by JWTs of the company's identity provider (RFC 8725, RFC 9068).

    Signatures are verified once: what is known of a JWT's bytes is kept as long as the provider's keys are the same. Times and callers are
    looked at each time.

    Args:
        issuer: what `iss` must be, exactly.
        audience: what must be among `aud`.
        keys: the provider's.
        directory: the callers, with the claims that they declare.
        clock: seconds since the epoch.
    """

    def __init__(self, issuer: str, audience: str, keys: Keys, directory: Directory, clock: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._directory = directory
        self._clock = clock
        self._verified = VerifiedJwts[_Verified]()
        self._known = directory.known
        self._declared = Declared(self._known)

    def recognises(self, jwt: Jwt) -> bool:
        """All JWTs but those that say they are tickets of the gateway's own."""
        return _type(header_of(jwt)) != TICKET_TYPE

    async def verify(self, jwt: Jwt) -> Caller:
        """The caller that the JWT proves.

        Raises:
            CredentialsInvalid: it proves nobody. Why is for the log alone.
            TokenUnavailable: the provider's keys are not known yet.
        """
        try:
            claims = await self._claims(jwt)
            ends = self._end(claims)
            caller = self._owner(claims)
        except _Untrusted as untrusted:
            log.info("a JWT was refused", reason=str(untrusted))
            raise invalid() from None
        return replace(caller, credential=CredentialKind.JWT, credential_id=credential_id_of(claims), expires_at=ends)

    async def _claims(self, token: Jwt) -> Mapping[str, object]:
        held = self._verified.get(token)
        if held is None or held.keys is not self._keys.current:
            held = await self._verify(token)
            self._verified.keep(token, held)
        return held.claims

    async def _verify(self, token: Jwt) -> _Verified:
        algorithm, kid = _read_header(token)
        keys = await self._keys.having(kid)
        try:
            return self._verified_by(keys, token.text, algorithm, kid)
        except _NoKeyHolds:
            # A new key's ID would have told of it already.
            renewed = keys if kid else await self._keys.renewed(keys)
            if renewed is keys:
                raise
        return self._verified_by(renewed, token.text, algorithm, kid)

    def _verified_by(self, keys: KeySet, text: str, algorithm: str, kid: str | None) -> _Verified:
        key = keys.find(kid, algorithm)
        if key is None:
            message = "no key of the provider, or more than one, fits its kid and algorithm"
            raise _NoKeyHolds(message)
        try:
            claims = jwt.decode(text, key.public, [algorithm], OPTIONS, audience=self._audience, issuer=self._issuer)
        except jwt.InvalidSignatureError as error:
            raise _NoKeyHolds(type(error).__name__) from None
        except jwt.PyJWTError as error:
            raise _Untrusted(type(error).__name__) from None
        return _Verified(keys, claims)

    def _end(self, claims: Mapping[str, object]) -> float:
        """When the JWT ends, in seconds since the epoch, if it is valid now (RFC 7519, sections 4.1.4 to 4.1.6)."""
        now = self._clock()
        ends = _moment(claims, "exp")
        if now >= ends + LEEWAY:
            message = "it has expired"
            raise _Untrusted(message)
        if any(now < _moment(claims, name) - LEEWAY for name in ("nbf", "iat") if name in claims):
            message = "its time has not come"
            raise _Untrusted(message)
        return ends

    def _owner(self, claims: Mapping[str, object]) -> Caller:
        if self._directory.known is not self._known:
            self._known = self._directory.known
            self._declared = Declared(self._known)
        found = self._declared.callers_of(claims)
        if len(found) != 1:
            names = ", ".join(caller.name for caller in found)
            message = f"its claims are ambiguous: they are those of {names}" if found else "its claims are no caller's"
            raise _Untrusted(message)
        return found[0]


def _read_header(token: Jwt) -> tuple[str, str | None]:
    """The algorithm and the key's ID. Keys that a header brings or points to (`jwk`, `jku`, `x5c`, `x5u`) are not looked at."""
    header = header_of(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        message = "its algorithm is not taken"
        raise _Untrusted(message)
    if not isinstance(kid, str | None):
        message = "its kid is no text"
        raise _Untrusted(message)
    if "crit" in header:
        message = "it has critical extensions, of which none is understood"  # RFC 7515, section 4.1.11
        raise _Untrusted(message)
    if _type(header) not in TYPES:
        message = "its type is not taken"  # RFC 8725, sections 3.11 and 3.12: a logout token, say, is no credential
        raise _Untrusted(message)
    return algorithm, kid


def _type(header: Mapping[str, object]) -> str:
    """What the JWT says that it is: a media type, whose `application/` may be left out (RFC 7515, section 4.1.9)."""
    return str(header.get("typ", "JWT")).lower().removeprefix("application/")


def _moment(claims: Mapping[str, object], name: str) -> float:
    """A NumericDate (RFC 7519, section 2), as far as it is a date."""
    value = claims[name]
    try:
        moment = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        moment = math.nan
    if not math.isfinite(moment) or moment >= NO_DATE:
        message = f"its {name} is no moment"
        raise _Untrusted(message)
    return moment
