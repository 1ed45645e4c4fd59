"""Authentication: who a request's credential proves to call, of whichever kind it is."""

from __future__ import annotations

from typing import Protocol

from app.callers.directory import Directory
from app.callers.keys import GatewayKey
from app.callers.presented import Jwt, Presented, credential_of, invalid
from app.domain import Caller

__all__ = ["Authentication", "Verifier"]


class Verifier(Protocol):
    """Who can tell whose a JWT is."""

    def recognises(self, jwt: Jwt) -> bool:
        """Whether the JWT says that it is of this verifier's sort; nothing of it is proven yet."""

    async def verify(self, jwt: Jwt) -> Caller:
        """The caller that the JWT proves.

        Raises:
            CredentialsInvalid
        """


class Authentication:
    """Proves callers by their keys, or by JWTs, each sort of which has its verifier.

    Args:
        directory: the callers.
        verifiers: asked in order; the first that recognises a JWT decides.
    """

    def __init__(self, directory: Directory, verifiers: tuple[Verifier, ...] = ()) -> None:
        self._directory = directory
        self._verifiers = verifiers

    async def authenticate(self, presented: Presented) -> Caller:
        """The caller that a request's credential proves.

        Raises:
            CredentialsMissing, CredentialsInvalid
            UpstreamTokenPresented: `X-API-TOKEN` holds what is no credential of the gateway's.
        """
        credential = credential_of(presented)
        if isinstance(credential, GatewayKey):
            return self._directory.prove(credential)
        return await self._verifier_of(credential).verify(credential)

    def _verifier_of(self, jwt: Jwt) -> Verifier:
        found = next((one for one in self._verifiers if one.recognises(jwt)), None)
        if found is None:
            raise invalid()
        return found
