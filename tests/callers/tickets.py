"""Tickets made up for tests of the callers' room."""

from __future__ import annotations

from typing import Any

from app.callers import TicketKey
from app.domain import PageTicket

NOW = 1_800_000_000
SHOP = "https://shop.example"
SEED = bytes(range(32))
KEY = TicketKey(SEED)


def made(**given: Any) -> PageTicket:
    """A ticket of five minutes for the shop's page."""
    terms: dict[str, Any] = {
        "id": "019a0000-0000-7000-8000-000000000001",
        "caller_id": "caller-1",
        "basis": "basis-1",
        "origin": SHOP,
        "token_id": "token-1",
        "operations": ("link-orders",),
        "issued_at": NOW,
        "expires_at": NOW + 300,
    }
    return PageTicket(**(terms | given))
