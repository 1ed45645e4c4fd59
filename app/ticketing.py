"""Giving tickets out: what each is good for is on record before anybody has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.callers import Origins, TicketAsked, TicketKey, draw_up
from app.catalogue import Catalogue
from app.domain import Caller, PageTicket

__all__ = ["TicketOffice"]


class Audit(Protocol):
    """What is needed of the record."""

    async def ticket_issued(
        self, ticket: PageTicket, *, request_id: str, trace_id: str | None, caller: Caller, address: str | None
    ) -> None: ...


class TicketOffice:
    """Where backends get tickets for their pages.

    Args:
        key: signs them.
        origins: whose pages may call.
        catalogue: the operations that there are.
        audit: the record.
        clock: seconds since the epoch.
    """

    def __init__(self, key: TicketKey, origins: Origins, catalogue: Catalogue, audit: Audit, clock: Callable[[], float]) -> None:
        self._key = key
        self._origins = origins
        self._catalogue = catalogue
        self._audit = audit
        self._clock = clock

    async def issue(
        self, caller: Caller, asked: TicketAsked, *, request_id: str, trace_id: str | None, address: str | None
    ) -> tuple[PageTicket, str]:
        """A ticket and its text, once it is on record.

        Raises:
            OperationNotGranted, TokenNotGranted, TokenAmbiguous, OriginNotAllowed, RequestMalformed: it can't be had.
            AuditUnavailable: it can't be put on record, so there is none.
        """
        ticket = draw_up(caller, asked, origins=self._origins.of(caller), catalogue=self._catalogue, now=self._clock())
        await self._audit.ticket_issued(ticket, request_id=request_id, trace_id=trace_id, caller=caller, address=address)
        return ticket, self._key.sign(ticket)
