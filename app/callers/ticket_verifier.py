"""Who a ticket proves to call: its caller, narrowed to what the ticket names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.callers.directory import Directory
from app.callers.origins import Origins
from app.callers.presented import Jwt, invalid
from app.callers.ticket_key import TicketKey, is_ticket
from app.callers.verified import VerifiedJwts
from app.domain import Caller, CredentialKind, Grant, PageTicket

__all__ = ["TicketVerifier"]

CLOCKS_APART = 30  # seconds by which the clock of the replica that made a ticket may be ahead


class TicketVerifier:
    """Proves callers by tickets. A ticket never gives more than its caller has at that moment.

    It dies with its caller, and loses what is taken from its caller. It ends with the key that it was asked with, so that whoever stole one
    keeps nothing of it; a rotation with grace keeps the key, so that replacing it in the ordinary course breaks no page. A ticket that was
    asked with a JWT ends when its caller declares other claims. Signatures are verified once; times, what a ticket rests on, and its caller
    are looked at each time.

    Args:
        key: signed them.
        directory: the callers.
        origins: whose pages may call.
        clock: seconds since the epoch.
    """

    def __init__(self, key: TicketKey, directory: Directory, origins: Origins, clock: Callable[[], float]) -> None:
        self._key = key
        self._directory = directory
        self._origins = origins
        self._clock = clock
        self._verified = VerifiedJwts[PageTicket]()

    def recognises(self, jwt: Jwt) -> bool:
        """Whether the JWT says that it is a ticket."""
        return is_ticket(jwt)

    async def verify(self, jwt: Jwt) -> Caller:
        """The caller, with the ticket's rights only. `Origins.check` lets none in whose origin was taken from its caller.

        Raises:
            CredentialsInvalid: it isn't of the gateway's making, its time is over or hasn't come, or what it rests on is gone.
        """
        ticket = self._read(jwt)
        caller = self._directory.resting_on(ticket.basis)
        if caller is None or caller.id != ticket.caller_id or not ticket.issued_at - CLOCKS_APART <= self._clock() < ticket.expires_at:
            raise invalid()
        return self._narrowed(caller, ticket)

    def _read(self, jwt: Jwt) -> PageTicket:
        """The ticket, whose signature is verified once."""
        ticket = self._verified.get(jwt)
        if ticket is None:
            ticket = self._key.read(jwt)
            self._verified.keep(jwt, ticket)
        return ticket

    def _narrowed(self, caller: Caller, ticket: PageTicket) -> Caller:
        return replace(
            caller,
            credential=CredentialKind.TICKET,
            credential_id=f"ticket:{ticket.id}",
            role=None,
            grants=_still_granted(caller, ticket),
            default_token_id=ticket.token_id,
            origins=self._origins.of(caller) & {ticket.origin},
            has_listed_origin=self._origins.lists(ticket.origin),
            only_parameter=ticket.parameter,
            only_ids=None if ticket.ids is None else frozenset(ticket.ids),
            expires_at=ticket.expires_at,
        )


def _still_granted(caller: Caller, ticket: PageTicket) -> tuple[Grant, ...]:
    grant = caller.by_token.get(ticket.token_id)
    if grant is None:
        return ()
    return (replace(grant, operations=frozenset(filter(grant.covers, ticket.operations))),)
