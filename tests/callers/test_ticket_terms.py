"""What a caller may have a ticket made for, and which IDs a ticket is good for."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from app.callers import TicketAsked, check_ids, draw_up
from app.catalogue import Catalogue
from app.domain import Caller, CredentialKind, Grant, Operation, PageTicket, Parameter
from app.errors import (
    CredentialsInvalid,
    GatewayError,
    OperationNotGranted,
    OriginNotAllowed,
    RequestMalformed,
    TicketIdsNotAllowed,
    TokenAmbiguous,
    TokenNotGranted,
)
from tests.calls import LINK

from .tickets import NOW, SHOP

UNLINK = replace(LINK, id="unlink-orders", parameters=(Parameter("orderIds", 50), Parameter("itemIds", 50)))
CATALOGUE = Catalogue({"link-orders": LINK, "unlink-orders": UNLINK})
ALL = Grant("token-1", "shop")
LINK_ONLY = Grant("token-2", "store", frozenset({"link-orders"}))
UNLINK_ONLY = Grant("token-3", "outlet", frozenset({"unlink-orders", "no-more"}))
BACKEND = Caller("caller-1", "order-service", "key-1", (ALL,), basis="basis-1")


def drawn(caller: Caller = BACKEND, **asked: Any) -> PageTicket:
    """The ticket that the caller gets."""
    terms: dict[str, Any] = {"origin": SHOP, "lifetime": 300} | asked
    return draw_up(caller, TicketAsked(**terms), origins=frozenset({SHOP}), catalogue=CATALOGUE, now=NOW + 0.9)


def with_grants(*grants: Grant, default: str | None = None) -> Caller:
    """A backend with these grants."""
    return replace(BACKEND, grants=grants, default_token_id=default)


def test_a_ticket_is_by_default_for_all_that_the_caller_may_do_with_its_token() -> None:
    """Every operation of the catalogue that the one grant covers, and any ID, from the second it was asked for."""
    ticket = drawn()

    assert uuid.UUID(ticket.id).version == 7
    assert ticket == PageTicket(
        id=ticket.id,
        caller_id="caller-1",
        basis="basis-1",
        origin=SHOP,
        token_id="token-1",
        token_name="shop",
        operations=("link-orders", "unlink-orders"),
        issued_at=NOW,
        expires_at=NOW + 300,
    )


def test_a_ticket_names_only_operations_that_there_are() -> None:
    """What a grant names and the catalogue doesn't is in no ticket."""
    assert drawn(with_grants(UNLINK_ONLY)).operations == ("unlink-orders",)


def test_a_ticket_may_be_for_less() -> None:
    """Fewer operations, and the very IDs, each once."""
    ticket = drawn(operations=("link-orders", "link-orders"), ids=(3, 1, 3), lifetime=3600)

    assert (ticket.operations, ticket.parameter, ticket.ids) == (("link-orders",), "orderIds", (3, 1))
    assert ticket.expires_at - ticket.issued_at == 3600


@pytest.mark.parametrize(
    ("caller", "asked", "token"),
    [
        (with_grants(LINK_ONLY), {}, "store"),
        (with_grants(ALL, LINK_ONLY), {"token": "store"}, "store"),
        (with_grants(ALL, LINK_ONLY, default="token-1"), {}, "shop"),
        (with_grants(LINK_ONLY, UNLINK_ONLY), {"operations": ("unlink-orders",)}, "outlet"),
        (with_grants(LINK_ONLY, UNLINK_ONLY, default="token-2"), {"operations": ("unlink-orders",)}, "outlet"),
    ],
    ids=["only", "named", "default", "only one for it", "default not for it"],
)
def test_the_token_is_the_one_named_or_the_default_or_the_only_one(caller: Caller, asked: dict[str, Any], token: str) -> None:
    """As with a call."""
    assert drawn(caller, **asked).token_name == token


@pytest.mark.parametrize(
    ("caller", "asked", "refusal"),
    [
        (with_grants(ALL, LINK_ONLY), {}, TokenAmbiguous),
        (BACKEND, {"token": "store"}, TokenNotGranted),
        (with_grants(), {}, OperationNotGranted),
        (with_grants(), {"token": "shop"}, TokenNotGranted),
        (with_grants(LINK_ONLY), {"operations": ("unlink-orders",)}, OperationNotGranted),
        (with_grants(LINK_ONLY), {"operations": ("link-orders", "unlink-orders")}, OperationNotGranted),
        (with_grants(LINK_ONLY), {"operations": ("unlink-orders",), "token": "store"}, OperationNotGranted),
        (BACKEND, {"operations": ("no-such-operation",)}, OperationNotGranted),
        (BACKEND, {"operations": ("link-orders", "no-such-operation")}, OperationNotGranted),
        (with_grants(ALL, replace(ALL, token_id="token-2", token_name="store")), {"operations": ("no-such",)}, OperationNotGranted),
        (with_grants(replace(ALL, operations=frozenset())), {}, OperationNotGranted),
        (BACKEND, {"origin": "https://evil.example"}, OriginNotAllowed),
        (BACKEND, {"origin": "null"}, OriginNotAllowed),
        (BACKEND, {"origin": f"{SHOP}/"}, OriginNotAllowed),
        (BACKEND, {"parameter": "orderIds"}, RequestMalformed),
        (BACKEND, {"ids": (1,), "parameter": "no-such-parameter"}, RequestMalformed),
        (BACKEND, {"ids": (1,), "parameter": "channelIds"}, RequestMalformed),
        (replace(BACKEND, credential=CredentialKind.TICKET, origins=frozenset({SHOP})), {}, OperationNotGranted),
    ],
)
def test_a_ticket_is_never_for_more_than_the_caller_has(caller: Caller, asked: dict[str, Any], refusal: type[GatewayError]) -> None:
    """Nor for what can't be told, nor asked for with a ticket."""
    with pytest.raises(refusal):
        drawn(caller, **asked)


@pytest.mark.parametrize(
    ("credential_ends", "ticket_ends"), [(None, 300), (301.5, 300), (299.5, 299), (1.0, 1)], ids=["never", "later", "sooner", "at once"]
)
def test_a_ticket_ends_with_the_credential_that_it_was_asked_with(credential_ends: float | None, ticket_ends: int) -> None:
    """A key's end, or a JWT's, is its tickets' too, and the answer says so."""
    backend = replace(BACKEND, expires_at=None if credential_ends is None else NOW + credential_ends)

    assert drawn(backend).expires_at == NOW + ticket_ends


@pytest.mark.parametrize("ended", [NOW - 29.0, NOW + 0.95])
def test_a_credential_in_its_last_second_gets_no_ticket(ended: float) -> None:
    """Nor a JWT that is good only because clocks may differ: no page could use the ticket."""
    with pytest.raises(CredentialsInvalid, match="ends too soon"):
        drawn(replace(BACKEND, expires_at=ended))


def test_an_ambiguous_token_names_those_to_choose_from() -> None:
    """As with a call."""
    with pytest.raises(TokenAmbiguous) as refused:
        drawn(with_grants(ALL, LINK_ONLY))

    assert refused.value.members == {"tokens": ["shop", "store"]}


def test_ids_are_of_the_parameter_named() -> None:
    """One that each of the ticket's operations takes."""
    assert drawn(ids=(1,), operations=("link-orders",), parameter="channelIds").parameter == "channelIds"


def only(*ids: int) -> Caller:
    """A ticket's caller that may give these orders."""
    return replace(BACKEND, credential=CredentialKind.TICKET, only_parameter="orderIds", only_ids=frozenset(ids))


def parameter(name: str, operation: Operation = LINK) -> Parameter:
    """A parameter of an operation."""
    return next(one for one in operation.parameters if one.name == name)


@pytest.mark.parametrize("ids", [(1,), (2, 1), (1, 2, 3)])
def test_a_tickets_ids_may_be_given(ids: tuple[int, ...]) -> None:
    """Some or all of them."""
    check_ids(only(1, 2, 3), parameter("orderIds"), ids)


@pytest.mark.parametrize(("name", "ids"), [("orderIds", (4,)), ("orderIds", (1, 4)), ("channelIds", (1,)), ("orderItemIds", (1, 2))])
def test_other_ids_are_refused_and_not_repeated(name: str, ids: tuple[int, ...]) -> None:
    """One that is too many is too many; and the 1 of a channel isn't the 1 of an order."""
    with pytest.raises(TicketIdsNotAllowed) as refused:
        check_ids(only(1, 2, 3), parameter(name), ids)

    assert not any(digit in refused.value.detail for digit in "1234")
    assert refused.value.members == {}


def test_without_ids_any_may_be_given() -> None:
    """To a key, and to a ticket that names none."""
    check_ids(BACKEND, parameter("channelIds"), (1, 2))
