"""A server that takes no writing for a while, as one does that isn't promoted yet; and one that nobody thought of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL

from tests.servers.postgres import Postgres

__all__ = ["failing_once", "unpromoted"]


@contextmanager
def unpromoted(server: Postgres, address: str) -> Iterator[None]:
    """Have whoever connects to a database meanwhile find that it can only be read."""
    change = f"ALTER DATABASE {address.rpartition('/')[2]} %s default_transaction_read_only"
    server.ask(f"{change % 'SET'} = on")
    try:
        yield
    finally:
        server.ask(change % "RESET")


def failing_once(connect: Callable[[URL], Awaitable[Any]]) -> Callable[[URL], Awaitable[Any]]:
    """The same, but the first time it fails as nothing should."""
    failures = [ZeroDivisionError("nobody thought of this")]

    async def connecting(url: URL) -> Any:
        if failures:
            raise failures.pop()
        return await connect(url)

    return connecting
