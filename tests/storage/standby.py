"""A server that takes no writing for a while, as one does that isn't promoted yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.postgres import Postgres

__all__ = ["unpromoted"]


@contextmanager
def unpromoted(server: Postgres, address: str) -> Iterator[None]:
    """Have whoever connects to a database meanwhile find that it can only be read."""
    change = f"ALTER DATABASE {address.rpartition('/')[2]} %s default_transaction_read_only"
    server.ask(f"{change % 'SET'} = on")
    try:
        yield
    finally:
        server.ask(change % "RESET")
