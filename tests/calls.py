"""Calls made up for tests of single rooms."""

from __future__ import annotations

from typing import Any

from app.catalogue import load_catalogue
from app.domain import Asked, Call, Caller, Parameter, TokenKind, TokenRef, new_id
from app.settings import SHIPPED_CATALOGUE

LINK = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]
SHOP = TokenRef("token-1", "shop", TokenKind.ACCOUNT, lane="lane-1")


def make_call(*ids: int, caller: str = "service", token: TokenRef = SHOP, arrived: float = 0.0, deadline: float = 60.0) -> Call:
    """A call for these orders."""
    return Call(
        id=new_id(),
        request_id=new_id(),
        caller=Caller(caller, caller, "key-1"),
        operation=LINK,
        parameter=Parameter("orderIds", 50),
        ids=ids or (1,),
        token=token,
        arrived=arrived,
        deadline=deadline,
        address="127.0.0.1",
    )


def make_asked(caller: Caller, query: bytes = b"orderIds=1", **given: Any) -> Asked:
    """A request as it came in."""
    return Asked(
        request_id=new_id(), caller=caller, operation=LINK, query=query, has_body=False, token_names=(), wait=60.0, arrived=0.0, **given
    )
