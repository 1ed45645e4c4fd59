"""Authentication: who a request's credential proves to call, of whichever kind it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from app.callers.directory import Directory
from app.callers.keys import GatewayKey
from app.callers.networks import is_within
from app.callers.presented import Jwt, Presented, credential_of, invalid
from app.domain import Caller

__all__ = ["Authentication", "Verifier"]

log = structlog.get_logger(__name__)


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
        note_use: is told the ID of each key that proved its caller.
    """

    def __init__(
        self, directory: Directory, verifiers: tuple[Verifier, ...] = (), note_use: Callable[[str], None] = lambda _: None
    ) -> None:
        self._directory = directory
        self._verifiers = verifiers
        self._note_use = note_use

    async def authenticate(self, presented: Presented) -> Caller:
        """The caller that a request's credential proves, from where that caller may call.

        Raises:
            CredentialsMissing, CredentialsInvalid
            TokenUnavailable: it is a JWT, and the identity provider's keys are not known yet.
            UpstreamTokenPresented: `X-API-TOKEN` holds what is no credential of the gateway's.
        """
        credential = credential_of(presented)
        if isinstance(credential, GatewayKey):
            caller = self._directory.prove(credential)
        else:
            caller = await self._verifier_of(credential).verify(credential)
        _check_network(caller, presented.address)
        if isinstance(credential, GatewayKey):
            self._note_use(credential.id)
        return caller

    def still_lets_in(self, caller: Caller, address: str | None) -> bool:
        """Whether a caller who was let in from that address would be again, with the same credential."""
        return self._directory.lets_in(caller, address)

    def _verifier_of(self, jwt: Jwt) -> Verifier:
        found = next((one for one in self._verifiers if one.recognises(jwt)), None)
        if found is None:
            raise invalid()
        return found


def _check_network(caller: Caller, address: str | None) -> None:
    """Only the operator learns why: whoever stole a key must not find out that it is good, nor by how long the refusal takes."""
    if not is_within(address, caller.networks):
        # In the loop's next turn, which comes after the answer: a line takes longer than all the rest of the refusal.
        asyncio.get_running_loop().call_soon(partial(log.warning, "network-not-allowed", caller=caller.name, address=address))
        raise invalid(recorded_as="network-not-allowed")
