"""The key that signs tickets, made anew as docs/operations.md tells."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests import loopback

from .processes import unmeasured
from .test_postgresql import admit, serving

ORIGIN = "https://shop.example"


def ticket_of(url: str, key: str) -> str:
    """A ticket for a page."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = loopback.request("POST", f"{url}/gateway/tickets", headers=headers, json={"origin": ORIGIN})
    return str(answer.json()["ticket"])


def status_of(url: str, ticket: str) -> int:
    """How a call of the page is answered that is refused in any case, with 400 where the ticket is good."""
    headers = {"Authorization": f"Bearer {ticket}", "Origin": ORIGIN}
    return loopback.request("PATCH", f"{url}/orders/link?orderIds=1&channelIds=2", headers=headers).status_code


def test_tickets_end_with_the_key_that_signed_them(tmp_path: Path) -> None:
    """Taken out of the database, the key is made anew at the next start: no ticket of before is good, one of after is."""
    variables = unmeasured(STATE_DIR=tmp_path / "state", CORS_ORIGINS=ORIGIN)
    key = admit(variables, tmp_path)
    with serving(variables, tmp_path / "before") as (gateway, url):
        old = ticket_of(url, key)
        before = status_of(url, old)
        assert gateway.stop() == 0
    with closing(sqlite3.connect(tmp_path / "state" / "gateway.db")) as connection, connection:
        connection.execute("DELETE FROM sealed_keys WHERE name = 'ticket-signing'")
    with serving(variables, tmp_path / "after") as (gateway, url):
        after = status_of(url, old), status_of(url, ticket_of(url, key))
        assert gateway.stop() == 0

    assert (before, after) == (400, (401, 400))
