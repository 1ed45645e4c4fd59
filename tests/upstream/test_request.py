"""The bytes of a request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.catalogue import load_catalogue
from app.domain import TokenValue
from app.settings import SHIPPED_CATALOGUE
from app.upstream.request import RequestForm

VALUE = TokenValue("T0ken/value+with=odd&characters")
LINK = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]
ORDERS = LINK.parameters[0]


def lines(form: RequestForm, *ids: int) -> list[str]:
    """A request's lines."""
    return form.filled(ids, VALUE).decode("ascii").split("\r\n")


def test_ids_stand_in_one_value_separated_by_commas() -> None:
    """As the catalogue says of the parameter, and as `urlencode` writes a comma."""
    start, *_ = lines(RequestForm("https://api.flxpoint.com", LINK, ORDERS), 1, 22, 333)

    assert start == "PATCH /orders/link?orderIds=1%2C22%2C333 HTTP/1.1"


def test_an_exploded_parameter_is_repeated() -> None:
    """Where the catalogue says so."""
    start, *_ = lines(RequestForm("https://api.flxpoint.com", LINK, replace(ORDERS, explode=True)), 1, 22, 333)

    assert start == "PATCH /orders/link?orderIds=1&orderIds=22&orderIds=333 HTTP/1.1"


def test_a_name_is_encoded() -> None:
    """A parameter's name can't break out of the query."""
    start, *_ = lines(RequestForm("https://api.flxpoint.com", LINK, replace(ORDERS, name="a b&c")), 1)

    assert start == "PATCH /orders/link?a+b%26c=1 HTTP/1.1"


def test_a_base_with_a_path_and_a_port_keeps_both() -> None:
    """A gateway before the upstream may have its own prefix."""
    start, *fields = lines(RequestForm("http://proxy.internal:8080/flxpoint", LINK, ORDERS), 1)

    assert start == "PATCH /flxpoint/orders/link?orderIds=1 HTTP/1.1"
    assert "Host: proxy.internal:8080" in fields


@pytest.mark.parametrize("value", ["sixteen-and\r\nX: more", "sixteen-and\nmore", "sixteen-and\0more", "sixteen-and-möre"])
def test_a_value_that_would_break_out_of_its_header_is_refused(value: str) -> None:
    """And the refusal doesn't say it."""
    form = RequestForm("https://api.flxpoint.com", LINK, ORDERS)
    with pytest.raises(ValueError, match="header") as raised:
        form.filled([1], TokenValue(value))

    assert "sixteen" not in str(raised.value)
