"""A ticket's terms: what a caller may have one made for, and the IDs that it is good for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.catalogue import Catalogue
from app.domain import Caller, CredentialKind, Grant, PageTicket, Parameter, new_id
from app.errors import (
    CredentialsInvalid,
    OperationNotGranted,
    OriginNotAllowed,
    RequestMalformed,
    TicketIdsNotAllowed,
    TokenAmbiguous,
    TokenNotGranted,
)

__all__ = ["TicketAsked", "check_ids", "draw_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketAsked:
    """What a backend wants a ticket for; `lifetime` in seconds.

    Without `operations` all that the caller may use with the token; without `token` its default or only one; without `ids` any. `ids` are
    of one parameter, since the 7 of an order is not the 7 of a channel: the operations' first, unless `parameter` names another.
    """

    origin: str
    lifetime: int
    token: str | None = None
    operations: tuple[str, ...] | None = None
    parameter: str | None = None
    ids: tuple[int, ...] | None = None


def draw_up(caller: Caller, asked: TicketAsked, *, origins: frozenset[str], catalogue: Catalogue, now: float) -> PageTicket:
    """The ticket that a caller may have.

    Args:
        caller: who asks.
        asked: for what.
        origins: those that the caller's pages may have.
        catalogue: the operations that there are.
        now: seconds since the epoch.

    Raises:
        OperationNotGranted, TokenNotGranted, TokenAmbiguous, OriginNotAllowed: it would be more than the caller has, or can't be told.
        RequestMalformed: the parameter isn't one of the operations'.
        CredentialsInvalid: the caller's credential is in its last second, or good only because clocks may differ.
    """
    if caller.credential is CredentialKind.TICKET:
        detail = "a ticket can't be used to ask for tickets"
        raise OperationNotGranted(detail)
    if asked.origin not in origins:
        detail = "the ticket's origin is none of those that the caller's pages may have"
        raise OriginNotAllowed(detail)
    _check_operations(asked, catalogue)
    grant = _grant(caller, asked)
    operations = _operations(grant, asked, catalogue)
    issued_at = int(now)
    return PageTicket(
        id=new_id(),
        caller_id=caller.id,
        basis=caller.basis,
        origin=asked.origin,
        token_id=grant.token_id,
        token_name=grant.token_name,
        operations=operations,
        parameter=_parameter(asked, operations, catalogue),
        ids=None if asked.ids is None else tuple(dict.fromkeys(asked.ids)),
        issued_at=issued_at,
        expires_at=_end(caller, asked, issued_at),
    )


def check_ids(caller: Caller, parameter: Parameter, ids: Sequence[int]) -> None:
    """Make sure that a call gives only IDs that the caller's ticket names, where it names any.

    Raises:
        TicketIdsNotAllowed: it doesn't; which those are isn't said.
    """
    if caller.only_ids is None:
        return
    if parameter.name != caller.only_parameter or not caller.only_ids.issuperset(ids):
        detail = "the ticket is for other IDs than the call gives"
        raise TicketIdsNotAllowed(detail)


def _check_operations(asked: TicketAsked, catalogue: Catalogue) -> None:
    """Before any grant is looked at: one for all operations covers every name, also of what doesn't exist."""
    if not all(one in catalogue for one in asked.operations or ()):
        detail = "the caller has no grant for these operations"
        raise OperationNotGranted(detail)


def _grant(caller: Caller, asked: TicketAsked) -> Grant:
    if asked.token is not None:
        return _named(caller, asked.token)
    usable = [grant for grant in caller.grants if all(map(grant.covers, asked.operations or ()))]
    if not usable:
        detail = "the caller has no grant for these operations"
        raise OperationNotGranted(detail)
    default = [grant for grant in usable if grant.token_id == caller.default_token_id]
    if len(usable) > 1 and not default:
        detail = "the caller may use several tokens: name one in `token`"
        raise TokenAmbiguous(detail, tokens=sorted(grant.token_name for grant in usable))
    return (default or usable)[0]


def _named(caller: Caller, name: str) -> Grant:
    grant = caller.by_name.get(name)
    if grant is None:
        detail = "the caller has no grant for a token of this name"
        raise TokenNotGranted(detail)
    return grant


def _end(caller: Caller, asked: TicketAsked, issued_at: int) -> int:
    """When the ticket ends: with the credential that it is asked with, at the latest."""
    end = issued_at + asked.lifetime
    if caller.expires_at is not None:
        end = min(end, int(caller.expires_at))
    if end <= issued_at:
        detail = "the credential ends too soon for a ticket"
        raise CredentialsInvalid(detail)
    return end


def _operations(grant: Grant, asked: TicketAsked, catalogue: Catalogue) -> tuple[str, ...]:
    wanted = set(asked.operations or (operation.id for operation in catalogue))
    granted = set(filter(grant.covers, wanted))
    if not granted or (asked.operations and granted != wanted):
        detail = f"the caller has no grant for these operations with the token {grant.token_name}"
        raise OperationNotGranted(detail)
    return tuple(sorted(granted))


def _parameter(asked: TicketAsked, operations: Sequence[str], catalogue: Catalogue) -> str | None:
    if asked.ids is None:
        if asked.parameter is not None:
            detail = "`parameter` says whose `ids` they are; there are none"
            raise RequestMalformed(detail)
        return None
    name = asked.parameter or catalogue[operations[0]].parameters[0].name
    if any(catalogue[one].parameter(name) is None for one in operations):
        detail = "`parameter` must be one that each of the ticket's operations takes"
        raise RequestMalformed(detail)
    return name
