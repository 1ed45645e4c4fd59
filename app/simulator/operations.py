"""The operations the simulated upstream offers, as functions from a request to an answer."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from app.simulator.answers import Answer, json_answer, message
from app.simulator.tokens import ACCOUNT, SOURCE, SimulatedToken
from app.simulator.world import LARGEST_ID, World

LARGEST_LIST: Final = 50
"""Values in one list parameter, as Flxpoint caps them."""
ACCOUNT_ID: Final = 4711
SHOWN_ORDERS: Final = 10

_ID = re.compile(r"[1-9][0-9]{0,18}")

_LINKS: Final[Mapping[str, Callable[[World, Iterable[int]], list[int]]]] = {
    "orderIds": World.link_orders,
    "orderItemIds": World.link_items,
    "channelIds": World.link_channels,
}


class BadRequestError(Exception):
    """The request breaks a rule of its operation; the message is for the caller."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request that got past the token and the rate: who sent it and what it says."""

    token: SimulatedToken
    method: str
    path: str
    query: bytes
    has_body: bool


def perform(world: World, request: UpstreamRequest) -> Answer:
    """Do what the request asks and answer it: 404 for an unknown path, 405 for a known path's wrong method."""
    if request.path not in OPERATIONS:
        return message(404, "Not found.")
    method, operation = OPERATIONS[request.path]
    if request.method != method:
        return message(405, "Method not allowed.", [("allow", method)])
    try:
        return operation(world, request)
    except BadRequestError as error:
        return message(400, str(error))


def link(world: World, request: UpstreamRequest) -> Answer:
    """Link unmanaged orders or items and answer the IDs of the orders that changed. All kinds of token may."""
    if request.has_body:
        msg = "This operation takes no request body."
        raise BadRequestError(msg)
    parameter, ids = _only_parameter(request.query)
    return json_answer(200, _LINKS[parameter](world, ids))


def account(_world: World, request: UpstreamRequest) -> Answer:
    """Answer the account's settings to an account token, 403 to the other kinds."""
    if request.token.kind != ACCOUNT:
        return message(403, "This token may not read the account.")
    return json_answer(200, {"id": ACCOUNT_ID, "name": "Simulated account", "timezone": "UTC", "currency": "USD"})


def fulfillment_requests(_world: World, request: UpstreamRequest) -> Answer:
    """Answer that there are none to account and source tokens, 403 to channel tokens."""
    if request.token.kind not in {ACCOUNT, SOURCE}:
        return message(403, "This token may not read fulfillment requests.")
    return json_answer(200, [])


def orders(world: World, _request: UpstreamRequest) -> Answer:
    """Answer a few orders. All kinds of token may."""
    return json_answer(200, [{"id": order.id} for order in world.orders[:SHOWN_ORDERS]])


OPERATIONS: Final[Mapping[str, tuple[str, Callable[[World, UpstreamRequest], Answer]]]] = {
    "/orders/link": ("PATCH", link),
    "/account": ("GET", account),
    "/fulfillment-requests": ("GET", fulfillment_requests),
    "/orders": ("GET", orders),
}
"""Each path's one method and its operation."""


def _only_parameter(query: bytes) -> tuple[str, list[int]]:
    """Return the one parameter passed and its IDs; a list may repeat its parameter or separate values by commas."""
    passed: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in _LINKS:
            msg = f"Unknown parameter. Pass one of {', '.join(_LINKS)}."
            raise BadRequestError(msg)
        if value:
            passed.setdefault(name, []).extend(value.split(","))
    if len(passed) != 1:
        msg = f"Pass exactly one of {', '.join(_LINKS)}."
        raise BadRequestError(msg)
    name, values = passed.popitem()
    return name, _ids(name, values)


def _ids(name: str, values: list[str]) -> list[int]:
    if len(values) > LARGEST_LIST:
        msg = f"{name} takes at most {LARGEST_LIST} values."
        raise BadRequestError(msg)
    if not all(_ID.fullmatch(value) and int(value) <= LARGEST_ID for value in values):
        msg = f"{name} takes positive 64-bit integers."
        raise BadRequestError(msg)
    return [int(value) for value in values]
